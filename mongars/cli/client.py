"""The one HTTP client of the command line: JSON, problems as faults, and the events of a turn.

It speaks to a running server over its address, or over a Unix socket to the body that a command
has opened itself; what it says is the same.
"""

import contextlib
import json
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from mongars.errors import MEANING, URN, Fault, FieldFault, Unavailable

PREFIX = "/api/v1"
LAST = frozenset({"done", "failed"})
"""Events that end a turn."""

RECONNECTS = 5
"""How often a lost connection is tried again without a new event, each time after twice as long."""

KINDS = {meaning.status: kind for kind, meaning in MEANING.items() if kind is not Fault}
KINDS[503] = Unavailable


@dataclass(frozen=True)
class Event:
    """One event of a turn or a job: its name, and its facts with `seq` among them."""

    name: str
    data: Mapping[str, Any]

    @property
    def seq(self) -> int:
        """Its place in its turn, from 1; 0 where it has none."""
        return int(self.data.get("seq") or 0)

    @property
    def ends(self) -> bool:
        """Whether nothing comes after it."""
        return self.name in LAST


class Proof(httpx.Auth):
    """A bearer token that is got from `prove`, and got again when the server no longer takes it.

    A talk lasts longer than a token.
    """

    def __init__(self, prove: Callable[[], str]) -> None:
        self._prove = prove
        self._token: str | None = None

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Try with the token at hand; once more with a fresh one."""
        held = self._token is not None
        self._token = self._token or self._prove()
        request.headers["authorization"] = f"Bearer {self._token}"
        answer = yield request
        if answer.status_code == 401 and held:
            self._token = self._prove()
            request.headers["authorization"] = f"Bearer {self._token}"
            yield request


class Client:
    """monGARS, as one person meets it. Raises the faults that the problems mean."""

    def __init__(
        self,
        base_url: str,
        prove: Callable[[], str] | None = None,
        socket: Path | None = None,
        *,
        wait_s: float = 0.2,
    ) -> None:
        self._wait_s = wait_s
        self._http = httpx.Client(
            base_url=base_url,
            transport=httpx.HTTPTransport(uds=str(socket) if socket else None),
            auth=Proof(prove) if prove else None,
            timeout=httpx.Timeout(30, connect=5),
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._http.close()

    def ask(self, method: str, path: str, **said: Any) -> Any:
        """One call; the answer's JSON, or `None` where there is none."""
        with _translated():
            answer = self._http.request(method, _full(path), **said)
        if answer.is_error:
            raise fault_of(answer.status_code, answer.content)
        return answer.json() if answer.content else None

    def fetch(self, path: str, **query: Any) -> bytes:
        """A file."""
        with _translated():
            answer = self._http.get(_full(path), params=query)
        if answer.is_error:
            raise fault_of(answer.status_code, answer.content)
        return answer.content

    def every(self, path: str, **query: Any) -> Iterator[dict[str, Any]]:
        """All items of a list, page by page."""
        while True:
            page = self.ask("GET", path, params=query)
            yield from page["items"]
            if not page.get("next"):
                return
            query["cursor"] = page["next"]

    def events(
        self, method: str, path: str, *, after: int = 0, **said: Any
    ) -> Generator[Event, None, None]:
        """The events that a call answers with, as they come."""
        headers = {"accept": "text/event-stream"}
        if after:
            headers["last-event-id"] = str(after)
        quiet = httpx.Timeout(30, connect=5, read=None)
        with (
            _translated(),
            self._http.stream(method, _full(path), headers=headers, timeout=quiet, **said) as came,
        ):
            if came.is_error:
                raise fault_of(came.status_code, came.read())
            yield from events_in(came.iter_bytes())

    def turn(self, path: str, **said: Any) -> Generator[Event, None, None]:
        """Begin a turn by POST to `path` and follow it to its end, through lost connections."""
        yield from self._follow(self.events("POST", path, **said), None, 0)

    def watch(self, turn_id: str, after: int = 0) -> Generator[Event, None, None]:
        """Follow a turn that runs already, from behind event `after`."""
        yield from self._follow(self._resumed(turn_id, after), turn_id, after)

    def stop(self, turn_id: str) -> None:
        """Ask a turn to end with what it has said so far."""
        self.ask("POST", f"/turns/{turn_id}/stop")

    def state_of_parts(self) -> dict[str, Any]:
        """What `/readyz` says of each part, whether or not all of them are ready."""
        with _translated():
            parts = self._http.get("/readyz").json().get("parts", {})
        return dict(parts)

    def job(self, job_id: str) -> Generator[dict[str, Any], None, None]:
        """A job's states, from now to its end. Raises the fault that it failed with."""
        state: dict[str, Any] = {}
        for event in self.events("GET", f"/jobs/{job_id}/events"):
            state = dict(event.data)
            yield state
        if state.get("state") == "failed":
            raise fault_in(state.get("error") or {})

    def _resumed(self, turn_id: str, after: int) -> Generator[Event, None, None]:
        return self.events("GET", f"/turns/{turn_id}/events", after=after)

    def _follow(
        self, source: Generator[Event, None, None], turn_id: str | None, after: int
    ) -> Generator[Event, None, None]:
        tries = 0
        while True:
            lost: Fault | None = None
            with contextlib.closing(source):
                try:
                    for event in source:
                        tries = 0
                        turn_id = event.data.get("turn_id") or turn_id
                        after = event.seq or after
                        yield event
                        if event.ends:
                            return
                except Unavailable as fault:
                    lost = fault
            if turn_id is None or tries == RECONNECTS:
                raise lost or Unavailable("The server ended the answer before its end.")
            time.sleep(self._wait_s * 2**tries)
            tries += 1
            source = self._resumed(turn_id, after)


def _full(path: str) -> str:
    return path if path.startswith(("/healthz", "/readyz", "/v1/")) else f"{PREFIX}{path}"


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except httpx.HTTPError as error:
        raise Unavailable(
            f"The connection to monGARS was lost ({type(error).__name__})."
        ) from error


def fault_of(status: int, content: bytes) -> Fault:
    """The fault that a problem document means."""
    try:
        problem = json.loads(content)
    except ValueError:
        problem = {}
    if not isinstance(problem, dict):
        problem = {}
    return fault_in(problem, status)


def fault_in(problem: Mapping[str, Any], status: int = 500) -> Fault:
    """The fault that a problem means, by its status."""
    status = int(problem.get("status") or status)
    kind = KINDS.get(status, Fault)
    wrong = [
        FieldFault(tuple(one.get("loc", ())), str(one.get("msg", "")))
        for one in problem.get("errors") or ()
    ]
    detail = problem.get("detail") or problem.get("title") or f"the server answered {status}"
    slug = str(problem.get("type", "")).removeprefix(URN)
    return kind(str(detail), slug=slug or None, errors=wrong)


def events_in(chunks: Iterable[bytes]) -> Iterator[Event]:
    """Server-sent events (WHATWG HTML, 9.2) out of bytes, however they are cut.

    Only line feeds end a line here: the server sends no others, and texts may hold U+2028.
    """
    name, data, rest = "", [], b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            field, _, value = line.rstrip(b"\r").partition(b":")
            value = value.removeprefix(b" ")
            if field == b"event":
                name = value.decode()
            elif field == b"data":
                data.append(value)
            elif not line.rstrip(b"\r"):
                if data:
                    yield Event(name, json.loads(b"\n".join(data)))
                name, data = "", []
