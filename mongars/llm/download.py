"""Adding a model: from a hub's repository, from an address, or through Ollama.

A source is one of
    NAME                         of the table of recommended models
    OWNER/REPO[@REVISION]        the fitting GGUF file of a hub's repository
    OWNER/REPO[@REVISION]/FILE   this file of it
    https://…/FILE.gguf          any address; `#sha256=HEX` at its end is checked
    ollama/NAME[:TAG]            Ollama downloads it
"""

import re
from dataclasses import dataclass
from typing import Literal, Self
from urllib.parse import unquote, urlsplit, urlunsplit

from mongars.errors import Conflict, Invalid, NotConfigured
from mongars.ids import now
from mongars.llm.adapters.ollama import Ollama
from mongars.llm.catalogue import find
from mongars.llm.fetch import Fetcher, Progress, Wanted, in_gb
from mongars.llm.hub import Hub
from mongars.llm.library import Library, LocalModel, Provenance, checked_name
from mongars.llm.request import ModelCard

_REPOSITORY = re.compile(
    r"(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[\w.-]+))?(/(?P<path>.+\.gguf))?", re.ASCII
)
_SHA256 = re.compile(r"sha256=([0-9a-fA-F]{64})")


@dataclass(frozen=True)
class Source:
    """Where a model comes from, taken apart."""

    kind: Literal["hub", "url", "ollama"]
    text: str
    """As it was given, without a checksum and without secrets."""
    repository: str = ""
    revision: str | None = None
    path: str | None = None
    url: str = ""
    sha256: str | None = None
    model: str = ""
    licence: str | None = None

    @classmethod
    def read(cls, text: str) -> Self:
        """Take a source apart; raises `Invalid` that says what can be written."""
        text = text.strip()
        if "://" in text:
            return cls._address(text)
        if text.startswith("ollama/") and text != "ollama/":
            return cls("ollama", text, model=text.removeprefix("ollama/"))
        recommended = find(text)
        if recommended is not None:
            return cls(
                "hub",
                recommended.name,
                repository=recommended.repository,
                path=recommended.file,
                licence=recommended.licence,
            )
        parts = _REPOSITORY.fullmatch(text)
        if parts is None:
            raise Invalid(
                f"{text[:200]!r} is no source of a model. Give a recommended name, OWNER/REPO, "
                "OWNER/REPO/FILE.gguf, https://…/FILE.gguf or ollama/NAME."
            )
        return cls("hub", text, parts["repository"], parts["revision"], parts["path"])

    @classmethod
    def _address(cls, text: str) -> Self:
        try:
            parts = urlsplit(text)
            host = parts.hostname
        except ValueError as error:
            raise Invalid("This address cannot be read.") from error
        if parts.scheme not in ("http", "https") or not host:
            raise Invalid("Only addresses of http and https are downloaded.")
        checksum = _SHA256.fullmatch(parts.fragment)
        if parts.fragment and checksum is None:
            raise Invalid("After # only sha256= and 64 hexadecimal digits can stand.")
        place = parts.netloc.rpartition("@")[2]
        return cls(
            "url",
            urlunsplit((parts.scheme, place, parts.path, "", "")),
            path=unquote(parts.path),
            url=urlunsplit(parts._replace(fragment="")),
            sha256=checksum[1].lower() if checksum else None,
        )


@dataclass(frozen=True)
class Offer:
    """What a pull would bring: for a person to say yes or no to. `None`: nobody tells."""

    source: str
    full_name: str
    licence: str | None
    size_bytes: int | None
    sha256: str | None

    @property
    def sentence(self) -> str:
        """The same for people, as in `embedded/X: 2.5 GB to download, licence apache-2.0.`"""
        size = (
            "size not told" if self.size_bytes is None else f"{in_gb(self.size_bytes)} to download"
        )
        licence = f"licence {self.licence}" if self.licence else "its licence is not told here"
        return f"{self.full_name}: {size}, {licence}."


@dataclass(frozen=True)
class _Plan:
    """An offer, and the way to fetch it."""

    offer: Offer
    name: str
    wanted: Wanted


class Downloads:
    """Adds models to the library, and to Ollama where there is one."""

    def __init__(
        self, library: Library, fetcher: Fetcher, hub: Hub, ollama: Ollama | None = None
    ) -> None:
        self.library = library
        self._fetcher = fetcher
        self._hub = hub
        self._ollama = ollama

    def check(self, source: str) -> None:
        """Whether this is a source at all; raises `Invalid`, `NotConfigured`. Asks nobody."""
        if Source.read(source).kind == "ollama" and self._ollama is None:
            raise _no_ollama()

    async def offer(self, source: str) -> Offer:
        """What a pull of this source would bring. Faults as in `pull`."""
        asked = Source.read(source)
        if asked.kind == "ollama":
            return Offer(asked.text, f"ollama/{asked.model}", None, None, None)
        return (await self._plan(asked)).offer

    async def pull(self, source: str, *, progress: Progress) -> ModelCard:
        """Bring a model here; `progress` is told bytes done and in all.

        Safe to call again: what is here already is not fetched, a broken-off download goes on.
        Faults: `Invalid` (what is meant, `not-a-model`, `checksum-mismatch`), `Missing`,
        `Forbidden` (terms to accept), `Conflict` (the name is taken, or it is under way already),
        `Unavailable` (`disk-full`, or somebody does not answer), `NotConfigured` (no Ollama).
        """
        asked = Source.read(source)
        if asked.kind == "ollama":
            if self._ollama is None:
                raise _no_ollama()
            return await self._ollama.pull(asked.model, progress)
        plan = await self._plan(asked)
        present = self._present(plan)
        if present is not None:
            await progress(present.size_bytes, present.size_bytes)
            return present.card
        async with self._fetcher.fetch(plan.wanted, progress) as fetched:
            self.library.record(
                plan.name,
                Provenance(
                    source=plan.offer.source,
                    sha256=fetched.sha256,
                    size_bytes=fetched.size_bytes,
                    verified=plan.wanted.sha256 is not None,
                    licence=plan.offer.licence,
                    at=now(),
                ),
            )
            fetched.put_in_place()
        return self.library.find(plan.name).card

    async def _plan(self, asked: Source) -> _Plan:
        self.library.prepare()
        if asked.kind == "hub":
            return await self._plan_hub(asked)
        name = _stem(asked.path or "")
        target = self.library.path_of(name)
        size = await self._fetcher.size_of(asked.url)
        offer = Offer(asked.text, f"embedded/{name}", None, size, asked.sha256)
        return _Plan(offer, name, Wanted(asked.url, target, None, asked.sha256))

    async def _plan_hub(self, asked: Source) -> _Plan:
        file = await self._hub.file(asked.repository, asked.path, asked.revision)
        name = _stem(file.path)
        target = self.library.path_of(name)
        source = f"{file.repository}@{file.commit}/{file.path}"
        licence = file.licence or asked.licence
        offer = Offer(source, f"embedded/{name}", licence, file.size_bytes, file.sha256)
        wanted = Wanted(file.url, target, file.size_bytes, file.sha256, file.headers)
        return _Plan(offer, name, wanted)

    def _present(self, plan: _Plan) -> LocalModel | None:
        """The model, when it is here already; raises `Conflict` when another one has its name."""
        here = {model.name: model for model in self.library.models()}.get(plan.name)
        if here is None:
            return None
        wanted = plan.wanted.sha256
        same = here.sha256 == wanted if wanted else here.source == plan.offer.source
        if same:
            return here
        raise Conflict(
            f"Another model is called {plan.name}. Remove it first: `mongars models rm {plan.name}`."
        )


def _no_ollama() -> NotConfigured:
    return NotConfigured("No Ollama is configured: set MONGARS_LLM__URL to its address.")


def _stem(path: str) -> str:
    """The model's name: the file's, without `.gguf`."""
    file = path.rpartition("/")[2]
    if not file.lower().endswith(".gguf"):
        raise Invalid("The address must end in a file's name such as MODEL.gguf.")
    return checked_name(file[: -len(".gguf")])
