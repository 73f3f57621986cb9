"""Starting what is measured, and measuring it: real processes on loopback, CPU seconds by psutil."""

import asyncio
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import psutil

from tests.servers import free_port, wait_for_port

ROOT = Path(__file__).parent.parent
PASSWORD = "correct-horse-battery-staple-42"


@dataclass
class Row:
    """One line of the table."""

    what: str
    measured: str
    at_least: str
    aim: str
    met: bool | None
    details: dict[str, object] = field(default_factory=dict)


@dataclass
class Served:
    """A running `mongars serve`."""

    url: str
    data_dir: Path
    process: subprocess.Popen[bytes]
    cold_start_s: float

    def tree(self) -> list[psutil.Process]:
        """The server and its children."""
        me = psutil.Process(self.process.pid)
        return [me, *me.children(recursive=True)]

    def own(self) -> list[psutil.Process]:
        """All processes but the model's."""
        return [p for p in self.tree() if "embedded" not in " ".join(p.cmdline())]

    def cpu_s(self) -> float:
        """CPU seconds of all processes but the model's so far."""
        return sum(sum(p.cpu_times()[:2]) for p in self.own())


def mongars(*arguments: str, data_dir: Path, stdin: str | None = None) -> str:
    """Run the command line."""
    done = subprocess.run(
        [sys.executable, "-m", "mongars", *arguments],
        input=stdin,
        text=True,
        capture_output=True,
        check=False,
        env={**os.environ, "MONGARS_DATA_DIR": str(data_dir)},
    )
    if done.returncode:
        raise RuntimeError(f"mongars {arguments}: {done.stderr}")
    return done.stdout


@contextlib.contextmanager
def stub_model() -> Iterator[str]:
    """The address of a stub model server."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.stub_model", "--port", str(port)], cwd=ROOT
    )
    try:
        wait_for_port(port, process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


@contextlib.contextmanager
def served(data_dir: Path, **settings: str) -> Iterator[Served]:
    """A running server; `settings` are environment names without `MONGARS_`."""
    port = free_port()
    environment = {
        **os.environ,
        "MONGARS_DATA_DIR": str(data_dir),
        "MONGARS_LIMITS__MESSAGES_PER_MINUTE": "1000000",
        "MONGARS_LIMITS__TURNS_PER_PERSON": "1000",
        "MONGARS_TELEMETRY__LEVEL": "warning",
        **{f"MONGARS_{name}": value for name, value in settings.items()},
    }
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "mongars", "serve", "--port", str(port)],
        env=environment,
        stdout=subprocess.DEVNULL,
        cwd=ROOT,
    )
    try:
        asyncio.run(_alive(f"http://127.0.0.1:{port}/healthz", process))
        took = time.perf_counter() - began
        yield Served(f"http://127.0.0.1:{port}", data_dir, process, took)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()


async def _alive(url: str, process: subprocess.Popen[bytes]) -> None:
    async with aiohttp.ClientSession() as http:
        for _ in range(3000):
            if process.poll() is not None:
                raise RuntimeError(f"the server ended with {process.returncode}")
            with contextlib.suppress(aiohttp.ClientError, OSError):
                async with http.get(url) as answered:
                    if answered.status == 200:
                        return
            await asyncio.sleep(0.01)
    raise TimeoutError(url)


def add_person(data_dir: Path, name: str = "bench") -> None:
    """A person who may chat."""
    mongars("users", "add", name, "--password-stdin", data_dir=data_dir, stdin=PASSWORD)


@contextlib.asynccontextmanager
async def signed_in(server: Served, name: str = "bench") -> AsyncIterator[aiohttp.ClientSession]:
    """A session that carries a person's token."""
    form = {"grant_type": "password", "username": name, "password": PASSWORD}
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{server.url}/api/v1/token", data=form) as answered,
    ):
        answered.raise_for_status()
        token = (await answered.json())["access_token"]
    connector = aiohttp.TCPConnector(limit=0)
    headers = {"authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(headers=headers, connector=connector) as session:
        yield session


@dataclass
class Timed:
    """One streamed answer: seconds to the first token and to the end, and its tokens."""

    first_s: float
    total_s: float
    tokens: int
    text: str


async def directly(http: aiohttp.ClientSession, stub: str, prompt: str) -> Timed:
    """Ask the model server itself."""
    asked = {"model": "stub", "stream": True, "messages": [{"role": "user", "content": prompt}]}
    began = time.perf_counter()
    first, pieces = 0.0, []
    async with http.post(f"{stub}/v1/chat/completions", json=asked) as answered:
        answered.raise_for_status()
        async for line in answered.content:
            if line.startswith(b"data: {"):
                delta = json.loads(line[6:])["choices"][0]["delta"]
                if delta.get("content"):
                    first = first or time.perf_counter() - began
                    pieces.append(delta["content"])
    text = "".join(pieces)
    return Timed(first, time.perf_counter() - began, len(text.split()), text)


async def through(
    http: aiohttp.ClientSession, server: Served, prompt: str, conversation_id: str | None = None
) -> Timed:
    """Ask monGARS: a durable, streamed turn."""
    asked: dict[str, object] = {"message": prompt}
    if conversation_id:
        asked["conversation_id"] = conversation_id
    began = time.perf_counter()
    first, pieces, event, done = 0.0, [], b"", False
    headers = {"accept": "text/event-stream"}
    async with http.post(f"{server.url}/api/v1/chat", json=asked, headers=headers) as answered:
        answered.raise_for_status()
        async for line in answered.content:
            if line.startswith(b"event: "):
                event = line[7:].strip()
            elif line.startswith(b"data: ") and event == b"delta":
                first = first or time.perf_counter() - began
                pieces.append(json.loads(line[6:])["text"])
            elif line.startswith(b"data: ") and event == b"done":
                done = True
            elif line.startswith(b"data: ") and event == b"failed":
                raise RuntimeError(line.decode())
    if not done:
        raise RuntimeError("a stream ended without `done`")
    text = "".join(pieces)
    return Timed(first, time.perf_counter() - began, len(text.split()), text)


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def spread(values: Sequence[float], unit: str = "", digits: int = 1) -> str:
    """Median with minimum and maximum."""
    middle = statistics.median(values)
    return f"{middle:.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f}){unit}"
