"""Real servers and real bodies for the tests."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from mongars.database import Database, DatabaseSettings, migrate
from tests.servers import Postgres, redis_server

if TYPE_CHECKING:
    from mongars.body import Body
    from mongars.settings import Settings

TWIN = "mongars.testing.models:ScriptedModel"
PASSWORD = "correct-horse-battery-staple-42"


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A real PostgreSQL with pgvector, or the one that MONGARS_TEST_DATABASE_URL names."""
    with Postgres.running(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """An empty database of its own; the login is an ordinary one that may create roles."""
    with postgres.database() as url:
        yield url


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Redis."""
    with redis_server(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_settings(request: pytest.FixtureRequest) -> DatabaseSettings:
    """Both databases, one after the other."""
    if request.param == "sqlite":
        return DatabaseSettings()
    return DatabaseSettings(url=request.getfixturevalue("postgres_url"))


@pytest.fixture
async def database(database_settings: DatabaseSettings, tmp_path: Path) -> AsyncIterator[Database]:
    """A migrated database of each kind."""
    async with Database.open(database_settings, tmp_path) as opened:
        await migrate.upgrade(opened)
        yield opened


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """SQLite, no Redis, and the scripted twin as model."""
    from mongars.settings import load

    return load(tmp_path / "data", {"MONGARS_LLM__BACKEND": TWIN})


@pytest.fixture
async def body(settings: Settings, tmp_path: Path) -> AsyncIterator[Body]:
    """A whole body on a fresh data directory."""
    from mongars.body import Body

    async with Body.open(settings, tmp_path / "data") as opened:
        yield opened


def client_of(body: Body, token: str | None = None) -> httpx.AsyncClient:
    """An HTTP client over the real application of this body."""
    from mongars.api.app import create_app

    app = create_app(body.settings)
    app.state.body = body
    headers = {"authorization": f"Bearer {token}"} if token else {}
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://testserver", headers=headers)


@pytest.fixture
async def client(body: Body) -> AsyncIterator[httpx.AsyncClient]:
    """A client that is not signed in."""
    async with client_of(body) as opened:
        yield opened


SignIn = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


async def _token(body: Body, name: str, *, admin: bool) -> str:
    await body.auth.add_person(name, PASSWORD, role="admin" if admin else "user")
    async with client_of(body) as anonymous:
        answered = await anonymous.post(
            "/api/v1/token",
            data={"grant_type": "password", "username": name, "password": PASSWORD},
        )
        answered.raise_for_status()
        token = answered.json()["access_token"]
        assert isinstance(token, str)
        return token


@pytest.fixture
async def alice(body: Body) -> AsyncIterator[httpx.AsyncClient]:
    """An ordinary person, signed in."""
    async with client_of(body, await _token(body, "alice", admin=False)) as opened:
        yield opened


@pytest.fixture
async def bob(body: Body) -> AsyncIterator[httpx.AsyncClient]:
    """Another ordinary person, signed in."""
    async with client_of(body, await _token(body, "bob", admin=False)) as opened:
        yield opened


@pytest.fixture
async def admin(body: Body) -> AsyncIterator[httpx.AsyncClient]:
    """An admin, signed in."""
    async with client_of(body, await _token(body, "root-admin", admin=True)) as opened:
        yield opened


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Fast tests first: who waits for a red one should wait as little as possible."""
    items.sort(
        key=lambda item: any(item.get_closest_marker(m) for m in ("slow", "model", "browser"))
    )


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """In CI a part that is missing is a failure: nothing is skipped that was not meant to be."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.skipped and os.environ.get("CI") and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        if "not on this platform" not in str(reason):
            report.outcome = "failed"
            report.longrepr = f"skipped in CI: {reason}"
