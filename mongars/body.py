"""Builds every organ, joins them, and closes them in reverse.

The API, the page, the command line, the worker and the tests all live in this same body.
"""

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mongars.auth import Auth
from mongars.bus import Bus
from mongars.cache import TieredCache
from mongars.cortex import Cortex
from mongars.cortex import forget_person as forget_turns
from mongars.database import Database, migrate
from mongars.errors import NotConfigured
from mongars.hippocampus import Hippocampus
from mongars.hippocampus import forget_person as forget_conversations
from mongars.jobs import Jobs
from mongars.jobs import forget_person as forget_jobs
from mongars.llm import LLMIntegration, Models, register
from mongars.neurons import Neurons
from mongars.settings import Settings
from mongars.telemetry import Telemetry

if TYPE_CHECKING:
    from redis.asyncio import Redis


@dataclass(frozen=True)
class Body:
    """Every organ, open."""

    settings: Settings
    data_dir: Path
    telemetry: Telemetry
    database: Database
    redis: "Redis | None"
    bus: Bus
    cache: TieredCache
    jobs: Jobs
    auth: Auth
    neurons: Neurons
    llm: LLMIntegration
    models: Models
    hippocampus: Hippocampus
    cortex: Cortex

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, settings: Settings, data_dir: Path) -> AsyncGenerator["Body"]:
        """Open all organs; what needs long to be ready (a model) gets ready behind this."""
        make_data_dir(data_dir)
        async with _plainly(), contextlib.AsyncExitStack() as stack:
            telemetry = stack.enter_context(Telemetry.open(settings.telemetry))
            redis = await stack.enter_async_context(_redis(settings))
            database = await stack.enter_async_context(Database.open(settings.database, data_dir))
            if database.dialect == "sqlite":
                await migrate.upgrade(database)
            bus = await stack.enter_async_context(Bus.open(redis))
            cache = await stack.enter_async_context(
                TieredCache.open(settings.cache, data_dir, redis)
            )
            jobs = Jobs(database, bus, settings.jobs)
            auth = await stack.enter_async_context(Auth.open(settings.auth, database, data_dir))
            auth.on_delete(forget_jobs)
            neurons = await stack.enter_async_context(Neurons.open(settings.neurons, cache))
            llm = await stack.enter_async_context(
                LLMIntegration.open(settings.llm, settings.circuit, data_dir, cache)
            )
            models = await stack.enter_async_context(Models.open(settings.llm, data_dir))
            register(jobs, models.downloads)
            hippocampus = Hippocampus(database, jobs, bus, data_dir, settings.hippocampus)
            cortex = await stack.enter_async_context(
                Cortex.open(settings.cortex, settings.limits, database, bus, jobs, llm)
            )
            auth.on_delete(forget_conversations)
            auth.on_delete(forget_turns)
            yield cls(
                settings,
                data_dir,
                telemetry,
                database,
                redis,
                bus,
                cache,
                jobs,
                auth,
                neurons,
                llm,
                models,
                hippocampus,
                cortex,
            )


@contextlib.asynccontextmanager
async def _plainly() -> AsyncGenerator[None]:
    """What one thing raised leaves as itself, not inside the groups of the organs' task groups."""
    try:
        yield
    except BaseExceptionGroup as group:
        alone: BaseException = group
        while isinstance(alone, BaseExceptionGroup) and len(alone.exceptions) == 1:
            alone = alone.exceptions[0]
        raise alone from None


def make_data_dir(data_dir: Path) -> None:
    """The data directory, for its owner's eyes only. Raises `NotConfigured` when it cannot be."""
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        data_dir.chmod(0o700)
    except OSError as error:
        raise NotConfigured(
            f"The data directory {data_dir} cannot be used ({error.strerror}): it must be yours and"
            " writable; choose another with --data DIR."
        ) from error


@contextlib.asynccontextmanager
async def _redis(settings: Settings) -> "AsyncGenerator[Redis | None]":
    if settings.redis.url is None:
        yield None
        return
    from redis.asyncio import Redis  # costs 20 MB and half a second, so only where it is configured

    try:
        redis = Redis.from_url(
            settings.redis.url.get_secret_value(),
            socket_timeout=None,
            socket_connect_timeout=settings.redis.timeout_s,
        )
    except ValueError as error:
        raise NotConfigured(
            "MONGARS_REDIS__URL cannot be read; it looks like redis://:password@host:6379/0"
        ) from error
    async with redis:
        yield redis
