"""The way from the command line to monGARS on this machine.

Where a server runs over the data directory (`server.json` names it), commands talk to it, so that
no second model is ever loaded beside it. Where none runs, a command opens the body itself and
speaks the same HTTP to it, over a Unix socket that nobody else can reach.

Who may read the data directory may act for its people: the command line opens a session of a few
minutes for one of them in the database, and ends it when it is done.
"""

import asyncio
import contextlib
import getpass
import json
import os
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from mongars.cli.client import Client
from mongars.errors import Invalid, Missing, NotConfigured, Unavailable

if TYPE_CHECKING:
    import uvicorn

    from mongars.auth import Auth, PersonRecord
    from mongars.cli.state import State

STARTING_S = 20.0
"""How long a server that lives may take until it answers."""

OPENING_S = 60.0
"""How long the body may take to open when no server runs."""


def running_server(data_dir: Path) -> str | None:
    """The address of the server over this data directory; `None` when none runs.

    Raises `Unavailable` when its process lives and does not answer.
    """
    try:
        told = json.loads((data_dir / "server.json").read_text())
        url, pid = str(told["url"]), int(told["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    until = time.monotonic() + STARTING_S
    while _lives(pid):
        if _answers(url):
            return url
        if time.monotonic() > until:
            raise Unavailable(
                f"The server at {url} (process {pid}) does not answer. Stop it, or remove"
                f" {data_dir / 'server.json'} if that process is not monGARS."
            )
        time.sleep(0.1)
    return None


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _answers(url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"{url}/healthz", timeout=2, trust_env=False).is_success
    return False


@contextlib.contextmanager
def client_for(state: "State", name: str | None) -> Iterator[Client]:
    """monGARS as `name` meets it: through the running server, or through a body opened here."""
    state.quiet_logs()
    with contextlib.ExitStack() as stack:
        url, socket = running_server(state.data_dir), None
        if url is None:
            socket = stack.enter_context(_body_on_a_socket(state))
            url = "http://localhost"
        prove = stack.enter_context(_proof(state, name))
        yield stack.enter_context(Client(url, prove, socket))


class _Socket:
    """The body of one command, in a thread of its own, behind a Unix socket."""

    def __init__(self, state: "State", path: Path) -> None:
        self._state = state
        self.path = path
        self.ready = threading.Event()
        self.failed: BaseException | None = None
        self._server: uvicorn.Server | None = None
        self.thread = threading.Thread(target=self._live, name="body")

    def stop(self) -> None:
        """Ask it to end."""
        if self._server is not None:
            self._server.should_exit = True

    def _live(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001  (given on to the thread that waits)
            self.failed = error
        finally:
            self.ready.set()

    async def _serve(self) -> None:
        import uvicorn

        from mongars.api.app import create_app
        from mongars.body import Body
        from mongars.worker import work

        ready = self.ready

        class Server(uvicorn.Server):
            async def startup(self, sockets: list[Any] | None = None) -> None:
                await super().startup(sockets)
                ready.set()

        settings = self._state.settings()
        async with Body.open(settings, self._state.data_dir) as body:
            app = create_app(settings)
            app.state.body = body
            config = uvicorn.Config(
                app,
                uds=str(self.path),
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=5,
            )
            self._server = Server(config)
            working = asyncio.create_task(work(body))
            try:
                await self._server.serve()
            finally:
                working.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await working


@contextlib.contextmanager
def _body_on_a_socket(state: "State") -> Iterator[Path]:
    """A body for this command alone; the socket lies in a directory that only its owner enters."""
    with tempfile.TemporaryDirectory(prefix="mongars-") as directory:
        opened = _Socket(state, Path(directory) / "api")
        opened.thread.start()
        try:
            if not opened.ready.wait(OPENING_S):
                raise Unavailable("monGARS did not open in time; `mongars doctor` may say why.")
            if opened.failed is not None:
                raise opened.failed
            yield opened.path
        finally:
            opened.stop()
            opened.thread.join()


@contextlib.contextmanager
def _proof(state: "State", name: str | None) -> Iterator[Callable[[], str]]:
    """Opens sessions of this person's in the database, as many as a long talk needs, and ends them."""
    opened: list[str] = []

    async def begin() -> str:
        async with auth_of(state) as auth:
            person = await chosen(auth, name)
            session_id, token = await auth.open_local_session(person.id)
            opened.append(session_id)
            return token

    async def end() -> None:
        async with auth_of(state) as auth:
            for session_id in opened:
                await auth.end_session(session_id)

    try:
        yield lambda: asyncio.run(begin())
    finally:
        if opened:
            asyncio.run(end())


@contextlib.asynccontextmanager
async def auth_of(state: "State") -> "AsyncIterator[Auth]":
    """Accounts, directly on the database."""
    from mongars.auth import Auth
    from mongars.body import make_data_dir
    from mongars.database import Database, migrate

    settings = state.settings()
    make_data_dir(state.data_dir)
    async with Database.open(settings.database, state.data_dir) as database:
        old = database.dialect == "sqlite" and await migrate.current(database) != migrate.newest()
        if old:
            await migrate.upgrade(database)
        async with Auth.open(settings.auth, database, state.data_dir) as auth:
            yield auth


async def chosen(auth: "Auth", name: str | None) -> "PersonRecord":
    """The person meant: by name, or the only one, or the one called as this login is."""
    people = [person for person in await auth.people() if not person.disabled]
    if name is not None:
        for person in people:
            if person.username.casefold() == name.casefold():
                return person
        raise Missing(f"There is nobody called {name}; `mongars users list` tells who is here.")
    if not people:
        raise NotConfigured("Nobody is here yet; add yourself: mongars users add NAME --admin")
    if len(people) == 1:
        return people[0]
    login = getpass.getuser().casefold()
    for person in people:
        if person.username.casefold() == login:
            return person
    names = ", ".join(person.username for person in people)
    raise Invalid(f"Who is talking? Say it with --as NAME ({names}).")
