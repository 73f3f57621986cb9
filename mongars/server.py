"""One process tree that serves: API, page and background work, or one of them."""

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import structlog
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from mongars.body import Body, make_data_dir
from mongars.errors import NotConfigured
from mongars.settings import Settings
from mongars.telemetry import configure_logs
from mongars.worker import work

log = structlog.get_logger()

Part = Literal["api", "web", "worker"]

API_PATHS = ("/api/", "/v1/", "/.well-known/")
API_EXACT = frozenset(
    {"/healthz", "/readyz", "/metrics", "/docs", "/openapi.json", "/mcp", "/api", "/v1"}
)
GRACE_S = 6
"""How long running requests may take to end after SIGTERM: longer than turns may, and short enough
that the whole stop takes less than 10 s on a busy machine."""


HEAD_BYTES = 64 * 1024
"""The most that a request's line and headers may hold, beyond what came with its first packet."""
HEAD_S = 30
"""How long a connection may take to say what it wants."""


class Paths:
    """Sends what is the API's to the API, and everything else to the page."""

    def __init__(self, api: ASGIApp, web: ASGIApp) -> None:
        self._api = api
        self._web = web

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Dispatch by path."""
        path = scope.get("path", "")
        of_api = (
            scope["type"] == "lifespan"
            or path in API_EXACT
            or path.startswith(("/docs/", *API_PATHS))
        )
        await (self._api if of_api else self._web)(scope, receive, send)


class BoundedHead(HttpToolsProtocol):
    """HTTP whose heads end: the parser itself keeps any number of bytes, for any length of time."""

    _head_bytes: int | None = None
    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Somebody called; they say what they want soon."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """They left."""
        self._wait_no_more()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on; what belongs to a head that began earlier counts."""
        began = self._head_bytes is not None
        super().data_received(data)
        if began and self._head_bytes is not None:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES and not self.transport.is_closing():
                self.send_400_response("The head of this request is too large.")

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self._head_bytes = 0
        self._wait()

    def on_headers_complete(self) -> None:
        """A head ends."""
        self._head_bytes = None
        self._wait_no_more()
        super().on_headers_complete()

    def _wait(self) -> None:
        self._wait_no_more()
        self._late = self.loop.call_later(HEAD_S, self.transport.close)

    def _wait_no_more(self) -> None:
        if self._late is not None:
            self._late.cancel()


class Listener(uvicorn.Server):
    """uvicorn that tells its address once it answers, and the body as soon as it is asked to stop."""

    def __init__(self, config: uvicorn.Config, stopping: asyncio.Event, told: str) -> None:
        super().__init__(config)
        self._stopping = stopping
        self._told = told

    async def startup(self, sockets: list[Any] | None = None) -> None:
        """Listen, and say where."""
        await super().startup(sockets)
        if self.started:
            sys.stdout.write(f"{self._told}\n")
            sys.stdout.flush()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """End in order on SIGTERM and SIGINT: uvicorn would raise them again before we closed."""
        loop = asyncio.get_running_loop()
        for sig in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(sig, self.handle_exit, sig, None)
        try:
            yield
        finally:
            for sig in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(sig)

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Begin to stop: running turns finish or are handed over, streams end."""
        self._stopping.set()
        super().handle_exit(sig, frame)


def serve(settings: Settings, data_dir: Path, only: Part | None = None) -> None:
    """Serve until told to stop. Raises `NotConfigured` when the address is taken."""
    os.umask(0o077)
    configure_logs(settings.telemetry)
    uvloop = _uvloop()
    runner = asyncio.Runner(loop_factory=uvloop)
    with runner:
        runner.run(_serve(settings, data_dir, only))


def _uvloop() -> Any:
    try:
        import uvloop
    except ImportError:  # no wheel for this platform: asyncio's own loop does the same
        return None
    return uvloop.new_event_loop


async def _serve(settings: Settings, data_dir: Path, only: Part | None) -> None:
    if only == "web":
        from mongars.web import create_web

        make_data_dir(data_dir)
        await _listen(settings, create_web(settings, data_dir, api=None), asyncio.Event())
        return
    stopping = asyncio.Event()
    async with contextlib.AsyncExitStack() as stack:
        if only != "worker" and settings.database.url is None:
            stack.enter_context(_alone(data_dir))
        body = await stack.enter_async_context(Body.open(settings, data_dir))
        if only == "worker":
            await _only_work(body, stopping)
            return
        from mongars.api.app import create_app

        api = create_app(settings)
        api.state.body = body
        app: ASGIApp = api
        if only is None:
            from mongars.web import create_web

            app = Paths(api, create_web(settings, data_dir, api=api))
        if code := await body.auth.setup_code():
            sys.stdout.write(f"First start: create the admin with the one-time code {code}\n")
        async with asyncio.TaskGroup() as tasks:
            background = [tasks.create_task(_wind_down(body, stopping))]
            if only is None:
                background.append(tasks.create_task(work(body)))
            try:
                with _server_file(settings, data_dir):
                    await _listen(settings, app, stopping)
            finally:
                for task in background:
                    task.cancel()


async def _wind_down(body: Body, stopping: asyncio.Event) -> None:
    """Streams of turns end as soon as the process is asked to stop, so that it can."""
    await stopping.wait()
    await body.cortex.wind_down()


async def _only_work(body: Body, stopping: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for sig in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sig, stopping.set)
    working = asyncio.create_task(work(body))
    waiting = asyncio.create_task(stopping.wait())
    await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
    for task in (working, waiting):
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await working


async def _listen(settings: Settings, app: ASGIApp, stopping: asyncio.Event) -> None:
    api = settings.api
    config = uvicorn.Config(
        app,
        host=api.host,
        port=api.port,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=bool(api.trusted_proxies),
        forwarded_allow_ips=list(api.trusted_proxies),
        timeout_graceful_shutdown=GRACE_S,
        lifespan="on",
        http=BoundedHead,
        ws="websockets-sansio",
        ws_max_size=settings.limits.body_bytes,
    )
    server = Listener(config, stopping, address(api.host, api.port))
    with _taken(api.host, api.port):
        await server.serve()
    if not server.started:
        raise NotConfigured(
            f"Port {api.port} on {api.host} cannot be listened on; choose another with --port."
        )


@contextlib.contextmanager
def _taken(host: str, port: int) -> Iterator[None]:
    """uvicorn ends the process when it cannot listen; say it in our words."""
    try:
        yield
    except SystemExit as error:
        raise NotConfigured(
            f"Port {port} on {host} cannot be listened on (is monGARS running already?);"
            " choose another with --port."
        ) from error


def address(host: str, port: int) -> str:
    """The address a person on this machine opens."""
    name = "localhost" if host in ("127.0.0.1", "0.0.0.0", "::", "::1", "localhost") else host  # noqa: S104
    return f"http://{f'[{name}]' if ':' in name else name}:{port}"


@contextlib.contextmanager
def _alone(data_dir: Path) -> Iterator[None]:
    """One server over one directory with SQLite; the lock goes with its process, however it ends.

    Raises `NotConfigured` when another server holds it.
    """
    make_data_dir(data_dir)
    with (data_dir / "server.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise NotConfigured(
                f"{data_dir} is served already; stop that server, or take another directory with"
                " --data. Several servers need MONGARS_DATABASE__URL=postgresql://…"
            ) from error
        yield


@contextlib.contextmanager
def _server_file(settings: Settings, data_dir: Path) -> Iterator[None]:
    """Tell the command line where this data directory is served."""
    path = data_dir / "server.json"
    told = {"url": address(settings.api.host, settings.api.port), "pid": os.getpid()}
    path.write_text(json.dumps(told))
    path.chmod(0o600)
    try:
        yield
    finally:
        with contextlib.suppress(OSError, ValueError):
            if json.loads(path.read_text()).get("pid") == os.getpid():
                path.unlink()
