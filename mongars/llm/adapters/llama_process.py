"""A llama.cpp server in a child process: started, watched, started again, replaced.

It listens on a Unix socket in a directory that only this user can enter (loopback TCP where the
platform has none), and asks for a key that nobody else knows.
"""

import asyncio
import contextlib
import os
import secrets
import shutil
import socket
import sys
import tempfile
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import structlog

from mongars.errors import Fault, NotConfigured, Unavailable
from mongars.llm.adapters import embedded_child
from mongars.llm.adapters.completions import Completions
from mongars.llm.adapters.openai import session
from mongars.llm.ports import Health
from mongars.llm.settings import LLMSettings

log = structlog.get_logger()

INSTALL = "pip install --require-hashes -r requirements/serve.txt"
LIBRARIES = "sudo apt-get install libgomp1 libstdc++6"
HINT = "It is being started again; try once more in a moment."

_LONGEST_SOCKET_PATH = 107
"""Bytes that `sun_path` holds on Linux, without the NUL."""

_FIRST_BACKOFF_S, _LONGEST_BACKOFF_S = 0.5, 30.0
_STEADY_S = 60.0
"""Who lived this long before it died is started again at once."""
_END_S = 3.0


@dataclass(frozen=True)
class Orders:
    """What one child is to load, and with what."""

    model: Path
    name: str
    context_tokens: int
    """Per seat."""
    seats: int
    threads: int
    batch_threads: int
    cache_mib: int


class LlamaProcess:
    """The supervised process. `server` is there while `health` is `ready`."""

    def __init__(self, settings: LLMSettings, orders: Orders, run_dir: Path) -> None:
        self.health = Health("loading", f"The model {orders.name} is being loaded.")
        self.pid: int | None = None
        self.restarts = 0
        self.orders = orders
        self._settings = settings
        self._run_dir = run_dir
        self._server: Completions | None = None
        self._fault: Fault | None = None
        self._settled = asyncio.Event()
        self._replaced = asyncio.Event()

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls, settings: LLMSettings, orders: Orders, run_dir: Path
    ) -> AsyncGenerator["LlamaProcess"]:
        """Start it; it gets ready behind this, and ends with this."""
        process = cls(settings, orders, run_dir)
        task = asyncio.create_task(process._supervise(), name="llama.cpp")
        try:
            yield process
        finally:
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled() and (error := task.exception()):
                raise error

    async def ready(self) -> Completions:
        """The server, once it listens. Raises `Unavailable` or `NotConfigured` when it will not."""
        try:
            async with asyncio.timeout(self._settings.load_timeout_s):
                while self._server is None:
                    await self._settled.wait()
                    if self._fault is not None:
                        raise self._fault
                return self._server
        except TimeoutError as error:
            raise Unavailable(
                f"{self.health.detail} It takes longer than a request may wait; try again later.",
                slug="model-loading",
                retry_after_s=10.0,
            ) from error

    def replace(self, orders: Orders) -> None:
        """Load this instead of what is loaded."""
        self.orders = orders
        self._server = None
        self._become("loading", f"The model {orders.name} is being loaded.")
        self._replaced.set()

    async def _supervise(self) -> None:
        backoff_s = _FIRST_BACKOFF_S
        loop = asyncio.get_running_loop()
        while True:
            self._replaced.clear()
            began = loop.time()
            try:
                why = await self._run()
            except Fault as fault:
                log.error("llm.model_failed", model=self.orders.name, why=fault.detail)
                self._become("failed", fault.detail, fault)
                await self._replaced.wait()
                backoff_s = _FIRST_BACKOFF_S
                continue
            if self._replaced.is_set():
                continue
            if loop.time() - began > _STEADY_S:
                backoff_s = _FIRST_BACKOFF_S
            log.warning("llm.model_died", model=self.orders.name, why=why, again_in_s=backoff_s)
            self._become("restarting", f"The embedded model ended ({why}) and is started again.")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._replaced.wait(), backoff_s)
            backoff_s = min(backoff_s * 2, _LONGEST_BACKOFF_S)
            self.restarts += 1

    async def _run(self) -> str:
        """One life of a child; tells how it ended. Raises the fault that trying again won't mend."""
        last_words: deque[str] = deque(maxlen=5)
        key = secrets.token_urlsafe(32)
        with self._address() as (host, port):
            async with _child() as child:
                self.pid = child.pid
                drained = asyncio.create_task(_drain(child, last_words))
                try:
                    told = await _order(child, self.orders, host, port, key)
                    if told is not None:
                        await self._serve(child, _raise_when_hopeless(told, self.orders), key)
                    code = await child.wait() if not self._replaced.is_set() else 0
                finally:
                    self.pid = None
                    drained.cancel()
                    await asyncio.wait({drained})
        said = f": {last_words[-1]}" if last_words else ""
        return f"signal {-code}{said}" if code < 0 else f"exit code {code}{said}"

    async def _serve(self, child: asyncio.subprocess.Process, url: str, key: str) -> None:
        """Be ready until the child ends or another model is wanted."""
        connector, base_url = _reached(url)
        async with session(connector) as http:
            self._server = Completions(
                http,
                base_url,
                self._settings,
                who="The embedded model",
                hint=HINT,
                api_key=key,
            )
            self._become("ready", "")
            log.info("llm.model_ready", model=self.orders.name, pid=child.pid)
            ended = asyncio.create_task(child.wait())
            replaced = asyncio.create_task(self._replaced.wait())
            try:
                await asyncio.wait({ended, replaced}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                self._server = None
                self._settled.clear()
                ended.cancel()
                replaced.cancel()
                await asyncio.wait({ended, replaced})

    def _become(self, state: Any, detail: str, fault: Fault | None = None) -> None:
        self.health = Health(state, detail)
        self._fault = fault
        if state in ("ready", "failed"):
            self._settled.set()
        else:
            self._settled.clear()

    @contextlib.contextmanager
    def _address(self) -> Any:
        """Where the child listens: a socket in a fresh directory, or a free port."""
        if not hasattr(socket, "AF_UNIX"):
            yield "127.0.0.1", 0
            return
        folder = _short_folder(self._run_dir)
        try:
            yield str(folder / "llm.sock"), 0
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _short_folder(run_dir: Path) -> Path:
    """A fresh directory of mode 0700, below `run_dir` unless its path is too long for a socket."""
    longest = run_dir / "llm-12345678" / "llm.sock"
    if len(os.fsencode(longest)) > _LONGEST_SOCKET_PATH:
        return Path(tempfile.mkdtemp(prefix="mongars-"))
    run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix="llm-", dir=run_dir))


def remove_leftovers(run_dir: Path) -> None:
    """Directories of processes that were killed before they could clean up."""
    for folder in run_dir.glob("llm-*"):
        path = folder / "llm.sock"
        if path.exists() and not _listens(path):
            shutil.rmtree(folder, ignore_errors=True)


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


@contextlib.asynccontextmanager
async def _child() -> AsyncGenerator[asyncio.subprocess.Process]:
    """The child process, without our secrets and out of reach of the terminal's Ctrl+C."""
    environment = {n: v for n, v in os.environ.items() if not n.startswith("MONGARS_")}
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        embedded_child.__file__,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
        start_new_session=True,
    )
    try:
        yield child
    finally:
        await asyncio.shield(_ended(child))


async def _ended(child: asyncio.subprocess.Process) -> None:
    for end in (child.terminate, child.kill):
        if child.returncode is not None:
            break
        await _end(child, end)
    if child.stdin is not None:
        child.stdin.close()


async def _end(child: asyncio.subprocess.Process, end: Callable[[], None]) -> None:
    with contextlib.suppress(ProcessLookupError):
        end()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(child.wait(), _END_S)


async def _drain(child: asyncio.subprocess.Process, last_words: deque[str]) -> None:
    assert child.stderr is not None
    while line := await child.stderr.readline():
        last_words.append(line.decode(errors="replace").strip()[:300])


async def _order(
    child: asyncio.subprocess.Process, orders: Orders, host: str, port: int, key: str
) -> Mapping[str, str] | None:
    """Tell the child what to do; what it says, or `None` when it ended without a word."""
    assert child.stdin is not None
    assert child.stdout is not None
    written = {
        "model": str(orders.model),
        "alias": orders.name,
        "context_tokens": orders.context_tokens,
        "seats": orders.seats,
        "threads": orders.threads,
        "batch_threads": orders.batch_threads,
        "cache_mib": orders.cache_mib,
        "host": host,
        "port": port,
        "key": key,
    }
    try:
        child.stdin.write(orjson.dumps(written) + b"\n")
        await child.stdin.drain()
    except ConnectionError:
        return None
    while line := await child.stdout.readline():
        if line.startswith(b'{"'):
            return dict(orjson.loads(line))
    return None


def _raise_when_hopeless(told: Mapping[str, str], orders: Orders) -> str:
    """The child's address; raises when it could not load and would not the next time either."""
    if "url" in told:
        return told["url"]
    detail = told.get("detail", "")
    if told.get("error") == "import" and ".so" in detail:
        library = detail.partition(":")[0]
        raise NotConfigured(f"The system library {library} is missing. Add it with: {LIBRARIES}")
    if told.get("error") == "import":
        raise NotConfigured(f"llama.cpp is not installed ({detail}). Add it with: {INSTALL}")
    raise Unavailable(
        f"The model {orders.name} could not be loaded: {orders.model} is damaged, of a kind that "
        "llama.cpp does not know, or larger than the memory. "
        "`mongars models use NAME` chooses another."
    )


def _reached(url: str) -> tuple[aiohttp.BaseConnector, str]:
    """How a child at this address is reached: its connector, and its base address.

    Connections are not used again: llama.cpp closes them after a stream without saying so.
    """
    if url.startswith("unix://"):
        path = url.removeprefix("unix://")
        return aiohttp.UnixConnector(path, limit=0, force_close=True), "http://embedded/v1"
    return aiohttp.TCPConnector(limit=0, force_close=True), f"{url}/v1"
