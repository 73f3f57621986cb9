"""One backend in use: its adapter, its queue and its circuit."""

import contextlib
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from mongars.circuit import CircuitBreaker, CircuitSettings
from mongars.errors import Missing, NotBuilt, NotConfigured
from mongars.llm.fairness import FairQueue
from mongars.llm.ports import LanguageModel, Loads
from mongars.llm.request import ModelCard
from mongars.llm.settings import LLMSettings

KNOWN = ("embedded", "ollama", "openai")
"""The backends that come with monGARS; each can be named in `backend/model`."""


@dataclass(eq=False)
class Backend:
    """What is needed to ask one backend."""

    model: LanguageModel
    queue: FairQueue
    breaker: CircuitBreaker
    default: str | None = None
    """The model that the settings name, or the first one that was found."""
    trouble: str = ""
    """Why it did not answer when it was last looked at; empty when it did."""
    cards: dict[str, ModelCard] = field(default_factory=dict)
    """What it had when it was last looked at, by name."""

    @property
    def name(self) -> str:
        """Its name in settings and metrics."""
        return self.model.name

    @property
    def loads(self) -> Loads | None:
        """The adapter, when it loads its model itself."""
        return self.model if isinstance(self.model, Loads) else None

    async def look(self) -> list[ModelCard]:
        """Ask what it has, and remember it. Raises its faults."""
        cards = list(await self.model.models())
        self.cards = {card.name: card for card in cards}
        return cards

    async def first(self) -> str:
        """The model that answers when none is named. Raises `Missing` when there is none."""
        if self.default is None:
            chat = [card for card in await self.look() if card.chat]
            if not chat:
                raise Missing(
                    f"{self.name} has no model that chats; name one in MONGARS_LLM__MODEL."
                )
            self.default = chat[0].name
        return self.default

    async def card(self, model: str) -> ModelCard | None:
        """What is known of this model right now."""
        await self.look()
        return self.cards.get(model) or self.cards.get(f"{model}:latest")


@contextlib.asynccontextmanager
async def open_backend(
    settings: LLMSettings, circuit: CircuitSettings, data_dir: Path
) -> AsyncGenerator[Backend]:
    """Open the backend that `settings.backend` names (not `auto`).

    Raises `NotConfigured` for a setting or package that is missing, `Missing` for a model file that
    is not there, `NotBuilt` for `ray`.
    """
    async with _adapter(settings, data_dir) as model:
        yield Backend(
            model,
            FairQueue(model.seats),
            CircuitBreaker(model.name, circuit),
            default=None if isinstance(model, Loads) else settings.model,
        )


def _adapter(settings: LLMSettings, data_dir: Path) -> AbstractAsyncContextManager[LanguageModel]:
    match settings.backend:
        case "embedded":
            from mongars.llm.adapters.embedded import Embedded

            return Embedded.open(settings, data_dir)
        case "openai":
            from mongars.llm.adapters.openai import OpenAI

            return OpenAI.open(settings)
        case "ollama":
            return _ollama(settings)
        case "ray":
            raise NotBuilt("Ray Serve is not built yet: set MONGARS_LLM__BACKEND=auto")
        case _:
            return _plug_in(settings)


@contextlib.asynccontextmanager
async def _ollama(settings: LLMSettings) -> AsyncGenerator[LanguageModel]:
    from mongars.llm.adapters.ollama import DEFAULT_URL, Ollama
    from mongars.llm.adapters.openai import session

    async with session() as http:
        yield Ollama(settings.url or DEFAULT_URL, settings, http)


@contextlib.asynccontextmanager
async def _plug_in(settings: LLMSettings) -> AsyncGenerator[LanguageModel]:
    """A class of one's own; entered and left where it is a context manager."""
    module, _, name = settings.backend.partition(":")
    try:
        made: Any = getattr(import_module(module), name)(settings)
    except (ImportError, AttributeError) as error:
        raise NotConfigured(f"There is no language model {settings.backend}: {error}") from error
    if hasattr(made, "__aenter__"):
        async with made as entered:
            yield entered
    else:
        yield made
