"""Everything about which models there are: on this machine, in Ollama, and better ones to add."""

import shutil
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import aiohttp

from mongars.errors import Conflict, Invalid, Missing, Unavailable
from mongars.llm.adapters.ollama import DEFAULT_URL, Ollama
from mongars.llm.backend import KNOWN
from mongars.llm.catalogue import Machine, Recommendation, look_around, recommend
from mongars.llm.download import Downloads
from mongars.llm.fetch import Fetcher
from mongars.llm.hub import Hub
from mongars.llm.library import Library, LocalModel
from mongars.llm.request import ModelCard
from mongars.llm.settings import LLMSettings


@dataclass(frozen=True)
class Installed:
    """A model that could answer; `local` where it is a file on this machine."""

    card: ModelCard
    local: LocalModel | None = None

    @property
    def removable(self) -> bool:
        """Whether `remove` can take it away: the built-in one stays, others' servers are theirs."""
        return self.card.backend == "ollama" or (self.local is not None and not self.local.built_in)

    def facts(self, in_use: str | None) -> dict[str, Any]:
        """What people and programs are told about it, plainly; `None`: its backend does not tell."""
        card, local = self.card, self.local
        return {
            "id": card.full_name,
            "name": card.name,
            "backend": card.backend,
            "in_use": card.full_name == in_use,
            "chat": card.chat,
            "digest": card.digest,
            "size_bytes": card.size_bytes,
            "context_tokens": card.context_tokens,
            "built_in": local is not None and local.built_in,
            "removable": self.removable,
            "source": None if local is None else local.source,
            "licence": None if local is None else local.licence,
            "verified": None if local is None else local.verified,
        }


@dataclass(frozen=True)
class Inventory:
    """What there is, and in a sentence each what could not be asked."""

    installed: Sequence[Installed]
    notices: Sequence[str] = ()


class Models:
    """The models of one data directory and of the Ollama beside it."""

    def __init__(
        self, library: Library, downloads: Downloads, ollama: Ollama, *, plugged_in: bool = False
    ) -> None:
        self.library = library
        self.downloads = downloads
        self._ollama = ollama
        self._plugged_in = plugged_in

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: LLMSettings, data_dir: Path) -> AsyncGenerator[Self]:
        """With HTTP sessions of its own; asks nobody until it is asked.

        Downloads go through the proxy that the environment names (`HTTPS_PROXY`), Ollama never does.
        """
        library = Library(data_dir)
        token = settings.hub_token
        async with aiohttp.ClientSession() as near, aiohttp.ClientSession(trust_env=True) as far:
            ollama = Ollama(ollama_url(settings), settings, near)
            fetcher = Fetcher(far, reserve_bytes=settings.disk_reserve_bytes)
            hub = Hub(settings.hub_url, None if token is None else token.get_secret_value())
            downloads = Downloads(library, fetcher, hub, ollama)
            yield cls(library, downloads, ollama, plugged_in=":" in settings.backend)

    async def inventory(self) -> Inventory:
        """The files on this machine and what Ollama has."""
        local = [Installed(model.card, model) for model in self.library.models()]
        try:
            theirs = [Installed(card) for card in await self._ollama.models()]
        except Unavailable as fault:
            return Inventory(local, (fault.detail,))
        return Inventory([*local, *theirs])

    def machine(self) -> Machine:
        """What this machine has for a model."""
        return look_around(shutil.disk_usage(self.library.prepare()).free)

    def recommended(self, *, all_models: bool = False) -> list[Recommendation]:
        """Better models that this machine can carry, best first; all, on request."""
        return recommend(self.machine(), all_models=all_models)

    async def use(self, full_name: str) -> None:
        """Take this model from now on (`backend/name`, or `auto`). Raises `Missing`, `Invalid`."""
        backend, _, name = full_name.partition("/")
        if full_name != "auto" and backend not in KNOWN and not self._plugged_in:
            raise Invalid(f"{backend[:140]!r} is no backend: one of {', '.join(KNOWN)}.")
        if backend == "ollama" and name:
            card = await self._ollamas(name)
            if not card.chat:
                raise Invalid(f"{full_name} turns texts into vectors and cannot chat.")
        self.library.use(full_name)

    async def remove(self, full_name: str, *, in_use: Sequence[str] = ()) -> None:
        """Delete a model. Raises `Conflict` (in use, built in, not ours), `Missing`, `Unavailable`."""
        backend, _, name = full_name.partition("/")
        if not name:
            raise Invalid(f"{full_name[:140]!r} is not a full name such as `ollama/qwen3:8b`.")
        if backend == "embedded":
            self.library.remove(name, in_use=in_use)
        elif backend == "ollama":
            if full_name in {self.library.in_use(), *in_use}:
                raise Conflict(
                    f"{full_name} is in use. Choose another first: `mongars models use NAME`."
                )
            await self._ollama.remove(name)
        else:
            raise Conflict(f"{full_name} belongs to another server, which keeps its own models.")

    async def _ollamas(self, name: str) -> ModelCard:
        for card in await self._ollama.models():
            if card.name in (name, f"{name}:latest"):
                return card
        raise Missing(
            f"Ollama has no model {name!r}. `mongars models pull ollama/{name}` downloads it."
        )


def facts_of(one: Recommendation) -> dict[str, Any]:
    """What people and programs are told about a recommended model, plainly."""
    model = one.model
    return {
        "name": model.name,
        "parameters_b": model.parameters_b,
        "licence": model.licence,
        "download_bytes": model.download_bytes,
        "memory_bytes": one.memory_bytes,
        "tokens_per_s": round(one.tokens_per_s, 1),
        "tight": one.tight,
        "why_not": one.why_not,
        "source": model.name,
        "ollama_source": f"ollama/{model.ollama}",
        "note": model.note,
    }


def ollama_url(settings: LLMSettings) -> str:
    """Where Ollama is: the backend's address where Ollama is the backend, else its usual one."""
    if settings.backend in ("auto", "ollama") and settings.url:
        return settings.url
    return DEFAULT_URL
