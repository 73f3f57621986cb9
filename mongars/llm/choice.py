"""Which backends there are, and which one is chosen."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

import structlog

from mongars.circuit import CircuitSettings
from mongars.errors import Fault, Missing, NotConfigured, Unavailable
from mongars.llm.backend import KNOWN, Backend, open_backend
from mongars.llm.library import BUILT_IN, Library
from mongars.llm.models import ollama_url
from mongars.llm.request import ModelCard
from mongars.llm.settings import LLMSettings

log = structlog.get_logger()

_OLLAMA_ANSWERS_S = 1.0
_OLLAMA_LISTS_S = 5.0


@dataclass(frozen=True)
class Choice:
    """The backend and model in use. Without a `model` it is the backend's own first one."""

    backend: str
    model: str | None
    why: str


class Backends:
    """The backends of one process, opened when first needed and closed together."""

    def __init__(
        self,
        settings: LLMSettings,
        circuit: CircuitSettings,
        data_dir: Path,
        stack: contextlib.AsyncExitStack,
    ) -> None:
        self.opened: dict[str, Backend] = {}
        self.faults: dict[str, str] = {}
        """Why a backend could not be opened, by name."""
        self.hint = ""
        """What is worth knowing about the choice, though nothing is wrong."""
        self._settings = settings
        self._circuit = circuit
        self._data_dir = data_dir
        self._stack = stack
        self._library = Library(data_dir)
        self._opening = asyncio.Lock()
        self._plug_in: str | None = None
        self._seen = self._written()

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls, settings: LLMSettings, circuit: CircuitSettings, data_dir: Path
    ) -> AsyncGenerator["Backends"]:
        """None is opened yet, but a class of one's own, whose name is needed."""
        async with contextlib.AsyncExitStack() as stack:
            backends = cls(settings, circuit, data_dir, stack)
            if ":" in settings.backend:
                backend = await stack.enter_async_context(open_backend(settings, circuit, data_dir))
                backends.opened[backend.name] = backend
                backends._plug_in = backend.name
            yield backends

    def knows(self, name: str) -> bool:
        """Whether this is a backend's name."""
        return name in KNOWN or name == self._plug_in

    async def get(self, name: str, model: str | None = None) -> Backend:
        """The backend of this name; opened if need be, with this model where it loads one."""
        async with self._opening:
            if name not in self.opened:
                settings = self._settings_of(name, model)
                try:
                    self.opened[name] = await self._stack.enter_async_context(
                        open_backend(settings, self._circuit, self._data_dir)
                    )
                except Fault as fault:
                    self.faults[name] = fault.detail
                    raise
                self.faults.pop(name, None)
            return self.opened[name]

    async def choose(self, *, kept: bool = True) -> Choice:
        """Who answers: as chosen by hand and kept, else as the settings say."""
        choice = (self._kept() if kept else None) or await self._by_settings()
        self.hint = ""
        log.info("llm.chosen", backend=choice.backend, model=choice.model, why=choice.why)
        try:
            backend = await self.get(choice.backend, choice.model)
            if choice.backend == "embedded" and backend.loads is not None:
                own = self._settings_of("embedded", choice.model).model
                await backend.loads.use(own or BUILT_IN)
        except (NotConfigured, Missing) as fault:
            if choice.backend != "embedded":
                raise
            log.error("llm.away", backend=choice.backend, why=fault.detail)
        return choice

    def kept_choice(self) -> str | None:
        """The full name in `model.json`. Raises `Unavailable` when it cannot be read."""
        return self._library.in_use()

    def choice_changed(self) -> bool:
        """Whether `model.json` was written since this was asked the last time."""
        seen, self._seen = self._seen, self._written()
        return seen != self._seen

    async def look_around(self, choice: Choice) -> None:
        """See whether the chosen backend answers, and whether Ollama came up meanwhile."""
        backend = self.opened.get(choice.backend)
        if backend is None:
            with contextlib.suppress(Fault):
                await self.get(choice.backend, choice.model)
        elif backend.loads is None or backend.default is None:
            await _look(backend)
        if self._settings.backend == "auto" and choice.backend == "embedded":
            cards, _ = await self._ollamas()
            if cards:
                name = cards[0].full_name
                self.hint = (
                    f"Ollama answers now; `mongars models use {name}` lets it answer from now on."
                )

    def _kept(self) -> Choice | None:
        try:
            full_name = self._library.in_use()
        except Unavailable as fault:
            log.warning("llm.choice_not_followed", why=fault.detail)
            return None
        name, _, model = (full_name or "").partition("/")
        return Choice(name, model, "chosen by hand") if self.knows(name) and model else None

    async def _by_settings(self) -> Choice:
        settings = self._settings
        if self._plug_in is not None:
            return Choice(self._plug_in, settings.model, f"set: {settings.backend}")
        if settings.backend != "auto":
            model = None if settings.backend == "embedded" else settings.model
            return Choice(settings.backend, model, "set by MONGARS_LLM__BACKEND")
        if settings.model is not None and self._is_file(settings.model):
            return Choice("embedded", None, f"{settings.model} is a file on this machine")
        cards, why = await self._ollamas()
        if cards:
            return Choice("ollama", settings.model or cards[0].name, why)
        return Choice("embedded", None, why)

    async def _ollamas(self) -> tuple[list[ModelCard], str]:
        """The chat models of Ollama, and a sentence about it."""
        url = ollama_url(self._settings)
        backend = await self.get("ollama")
        try:
            version = getattr(backend.model, "version")  # noqa: B009
            async with asyncio.timeout(_OLLAMA_ANSWERS_S):
                await version()
            async with asyncio.timeout(_OLLAMA_LISTS_S):
                chat = [card for card in await backend.look() if card.chat]
        except (Fault, TimeoutError):
            return [], f"Ollama does not answer at {url}"
        return chat, f"Ollama at {url} has {'a' if chat else 'no'} model that chats"

    def _is_file(self, model: str) -> bool:
        if model.endswith(".gguf"):
            return True
        try:
            self._library.find(model)
        except Missing:
            return False
        return True

    def _settings_of(self, name: str, model: str | None) -> LLMSettings:
        """The settings as this backend is to read them: address and key belong to one only."""
        settings = self._settings
        if settings.backend == name:
            return settings if model is None else settings.model_copy(update={"model": model})
        own: dict[str, object] = {"backend": name, "model": model, "api_key": None, "url": None}
        if settings.backend == "auto":
            own["model"] = model or settings.model
            if name == "embedded" and own["model"] and not self._is_file(str(own["model"])):
                own["model"] = None  # it is the name of a model of Ollama
            if name == "ollama":
                own["url"] = settings.url
        return settings.model_copy(update=own)

    def _written(self) -> int | None:
        try:
            return (self._data_dir / "model.json").stat().st_mtime_ns
        except OSError:
            return None


async def _look(backend: Backend) -> None:
    try:
        await backend.first()
        await backend.look()
    except Fault as fault:
        if fault.detail != backend.trouble:
            log.warning("llm.away", backend=backend.name, why=fault.detail)
        backend.trouble = fault.detail
    else:
        if backend.trouble:
            backend.breaker.retry_now()
        backend.trouble = ""
