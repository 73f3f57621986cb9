"""What a stranger can do to the listening socket itself."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterator
from threading import Thread

import pytest
import uvicorn
from starlette.responses import PlainTextResponse

from mongars.server import HEAD_BYTES, BoundedHead
from tests.servers import free_port


@pytest.fixture
def port() -> Iterator[int]:
    """Where a server answers that says hello."""
    number = free_port()
    config = uvicorn.Config(
        PlainTextResponse("hello"), port=number, http=BoundedHead, log_config=None, lifespan="off"
    )
    server = uvicorn.Server(config)
    thread = Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    try:
        yield number
    finally:
        server.should_exit = True
        thread.join(10)


def answer(port: int, *pieces: bytes) -> bytes:
    """The beginning of what comes back when all this is sent, as far as it is taken."""
    with socket.create_connection(("127.0.0.1", port), 10) as caller:
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                caller.sendall(piece)
        with contextlib.suppress(ConnectionError):
            return caller.recv(300)
        return b""


def wait(port: int) -> None:
    """Until it answers."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        time.sleep(0.02)


HEAD = b"GET / HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.parametrize("endless", [b"X: a\r\n" * 200_000, b"X: " + b"a" * 5_000_000])
def test_a_head_without_an_end_is_not_kept(port: int, endless: bytes) -> None:
    wait(port)
    told = answer(port, HEAD, endless, b"\r\n\r\n")
    assert not told.startswith(b"HTTP/1.1 200")
    assert answer(port, HEAD + b"\r\n").startswith(b"HTTP/1.1 200")


def test_a_large_body_and_what_follows_on_the_same_connection_are_taken(port: int) -> None:
    wait(port)
    length = HEAD_BYTES * 20
    body = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % length
    assert answer(port, body, b"a" * length, HEAD + b"\r\n").startswith(b"HTTP/1.1 200")
