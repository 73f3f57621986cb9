"""A cortex over real databases and the scripted twin."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mongars.bus import Bus
from mongars.circuit import CircuitSettings
from mongars.cortex import Cortex, CortexSettings, Event, LimitsSettings, Said, Turn
from mongars.database import Database
from mongars.hippocampus import Message, branch, conversation
from mongars.jobs import Jobs, JobsSettings
from mongars.llm import LLMIntegration, LLMSettings
from mongars.testing.models import ScriptedModel

TWIN = "mongars.testing.models:ScriptedModel"
OWNER = "owner-1"


@dataclass
class Stage:
    """One process's cortex and what it stands on."""

    database: Database
    bus: Bus
    jobs: Jobs
    llm: LLMIntegration
    cortex: Cortex

    @property
    def twin(self) -> ScriptedModel:
        """The model that answers."""
        model = self.llm._backends.opened["scripted"].model
        assert isinstance(model, ScriptedModel)
        return model

    async def say(self, text: str, owner: str = OWNER, **more: Any) -> Turn:
        """Say something."""
        return await self.cortex.say(owner, Said(text), **more)

    async def follow(self, turn: Turn, after: int = 0) -> list[Event]:
        """All events to the end."""
        events = self.cortex.listen(turn.owner_id, turn.id, after)
        async with contextlib.aclosing(events):
            return [event async for event in events]

    async def talk(self, text: str, **more: Any) -> tuple[Turn, list[Event]]:
        """Say something and hear the whole answer."""
        turn = await self.say(text, **more)
        return turn, await self.follow(turn)

    async def wait_for(self, turn: Turn, kind: str, many: int = 1) -> None:
        """Until `many` events of this type were told."""
        events = self.cortex.listen(turn.owner_id, turn.id)
        async with contextlib.aclosing(events):
            async for event in events:
                many -= event.type == kind
                if many <= 0:
                    return

    async def messages(self, turn: Turn) -> list[Message]:
        """The branch in view."""
        async with self.database.reading(turn.owner_id) as r:
            talk = await conversation(r, turn.owner_id, turn.conversation_id)
            assert talk.active_leaf_id is not None
            return await branch(r, turn.owner_id, turn.conversation_id, talk.active_leaf_id)


Open = Callable[..., AbstractAsyncContextManager[Stage]]


@pytest.fixture
def open_stage(database: Database, tmp_path: Path) -> Open:
    """Opens one more process's cortex over the same database."""

    @contextlib.asynccontextmanager
    async def opened(
        settings: CortexSettings = CortexSettings(titles=False),  # noqa: B008
        limits: LimitsSettings = LimitsSettings(),  # noqa: B008
        bus: Bus | None = None,
        url: str | None = None,
    ) -> AsyncIterator[Stage]:
        async with contextlib.AsyncExitStack() as stack:
            bus = bus or await stack.enter_async_context(Bus.open(None))
            jobs = Jobs(database, bus, JobsSettings())
            llm = await stack.enter_async_context(
                LLMIntegration.open(
                    LLMSettings(backend=TWIN, url=url), CircuitSettings(), tmp_path, None
                )
            )
            cortex = await stack.enter_async_context(
                Cortex.open(settings, limits, database, bus, jobs, llm)
            )
            yield Stage(database, bus, jobs, llm, cortex)

    return opened


@pytest.fixture
async def stage(open_stage: Open) -> AsyncIterator[Stage]:
    """One process's cortex."""
    async with open_stage() as opened:
        yield opened


def text_of(events: list[Event]) -> str:
    """What the deltas since the last reset make together."""
    text = ""
    for event in events:
        if event.type == "reset":
            text = event.facts()["text"]
        elif event.type == "delta":
            text += event.facts()["text"]
    return text


def types(events: list[Event]) -> list[str]:
    """The kinds of event, in order."""
    return [event.type for event in events]
