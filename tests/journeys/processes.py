"""Real servers as processes of their own, to be killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.conftest import PASSWORD, TWIN
from tests.servers import free_port

ROOT = Path(__file__).parent.parent.parent
V1 = "/api/v1"


@dataclass
class Server:
    """A running `mongars serve`."""

    url: str
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """End it without a warning."""
        self.process.kill()
        self.process.wait(10)

    def terminate(self) -> float:
        """Ask it to end; how long that took, in seconds."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(15)
        return time.monotonic() - began


def environment(data_dir: Path, **settings: str) -> dict[str, str]:
    """The twin as model, and these settings."""
    return {
        **os.environ,
        "MONGARS_DATA_DIR": str(data_dir),
        "MONGARS_LLM__BACKEND": TWIN,
        "MONGARS_LIMITS__MESSAGES_PER_MINUTE": "100000",
        "MONGARS_TELEMETRY__LEVEL": "warning",
        "MONGARS_CORTEX__TITLES": "false",
        **{f"MONGARS_{name}": value for name, value in settings.items()},
    }


def mongars(data_dir: Path, *arguments: str, stdin: str = "", **settings: str) -> None:
    """Run the command line once."""
    subprocess.run(
        [sys.executable, "-m", "mongars", *arguments],
        input=stdin,
        text=True,
        check=True,
        capture_output=True,
        cwd=ROOT,
        env=environment(data_dir, **settings),
    )


@contextlib.contextmanager
def serving(data_dir: Path, **settings: str) -> Iterator[Server]:
    """A server that answers; killed at the end if it still runs."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "mongars", "serve", "--port", str(port)],
        cwd=ROOT,
        env=environment(data_dir, **settings),
        stdout=subprocess.DEVNULL,
    )
    server = Server(f"http://127.0.0.1:{port}", process)
    try:
        until = time.monotonic() + 30
        while True:
            assert process.poll() is None, "the server ended"
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{server.url}/readyz").status_code == 200:
                    break
            assert time.monotonic() < until, "the server does not answer"
            time.sleep(0.05)
        yield server
    finally:
        if process.poll() is None:
            server.kill()


def add_person(data_dir: Path, name: str = "alice", **settings: str) -> None:
    """An account."""
    mongars(data_dir, "users", "add", name, "--password-stdin", stdin=f"{PASSWORD}\n", **settings)


def key_of(server: Server, name: str = "alice") -> dict[str, str]:
    """The headers of this person, by a key that outlives restarts."""
    form = {"grant_type": "password", "username": name, "password": PASSWORD}
    token = httpx.post(f"{server.url}{V1}/token", data=form).json()["access_token"]
    bearer = {"authorization": f"Bearer {token}"}
    made = httpx.post(f"{server.url}{V1}/me/api-keys", json={"name": "journey"}, headers=bearer)
    return {"authorization": f"Bearer {made.json()['key']}"}


Heard = list[dict[str, Any]]


async def events_of(
    client: httpx.AsyncClient, method: str, url: str, heard: Heard, **said: Any
) -> None:
    """Put the events of this answer into `heard` as they come, until it ends or breaks."""
    headers = {"accept": "text/event-stream", **said.pop("headers", {})}
    async with client.stream(method, url, headers=headers, timeout=60, **said) as answer:
        answer.raise_for_status()
        kind = ""
        async for line in answer.aiter_lines():
            if line.startswith("event: "):
                kind = line[7:]
            elif line.startswith("data: "):
                data = json.loads(line[6:])
                assert data["type"] == kind
                heard.append(data)


@contextlib.asynccontextmanager
async def person(server: Server, headers: dict[str, str]) -> AsyncIterator[httpx.AsyncClient]:
    """A client of this person."""
    limits = httpx.Limits(max_connections=50)
    async with httpx.AsyncClient(
        base_url=f"{server.url}{V1}", headers=headers, timeout=30, limits=limits
    ) as client:
        yield client


def joined(events: Heard) -> str:
    """The last reset's text and the deltas after it."""
    text = ""
    for event in events:
        if event["type"] == "reset":
            text = event["text"]
        elif event["type"] == "delta":
            text += event["text"]
    return text
