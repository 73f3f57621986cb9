"""The one HTTP client of the command line, over real sockets."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mongars.cli.client import Client, Event, events_in, fault_of
from mongars.errors import Busy, Conflict, Missing, NotBuilt, Unavailable, Unproven, meaning


def sse(name: str, **data: object) -> bytes:
    """One event as it goes over the wire."""
    return f"id: {data.get('seq')}\nevent: {name}\ndata: {json.dumps(data)}\n\n".encode()


STARTED = sse("started", seq=1, turn_id="t1", conversation_id="c1")
ONE, TWO = sse("delta", seq=2, text="one "), sse("delta", seq=3, text="two")
DONE = sse("done", seq=4, message={"id": "m"}, finish_reason="stop")


@contextlib.contextmanager
def server(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """A real HTTP server that answers everything by `answer`."""

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            answer(self)

        do_GET = do_POST = handle_any

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.server_port}"
        finally:
            listening.shutdown()
            thread.join()


def send(request: BaseHTTPRequestHandler, *parts: bytes, length: int | None = None) -> None:
    """Answer with a stream of events; a `length` beyond them cuts the answer off in the middle."""
    request.send_response(200)
    request.send_header("content-type", "text/event-stream")
    if length is not None:
        request.send_header("content-length", str(length))
    request.end_headers()
    for part in parts:
        request.wfile.write(part)


def test_events_are_the_same_however_the_bytes_are_cut() -> None:
    data = sse("delta", seq=1, text="a\u2028b é") + b": ping\n\n" + DONE
    whole = list(events_in([data]))
    assert [event.name for event in whole] == ["delta", "done"]
    assert whole[0].data["text"] == "a\u2028b é"
    for size in (1, 2, 7):
        cut = [data[at : at + size] for at in range(0, len(data), size)]
        assert list(events_in(cut)) == whole


def test_line_ends_of_windows_and_raw_separators_in_texts_are_read() -> None:
    data = 'event: delta\r\ndata: {"text": "a\u2028b\x85c"}\r\n\r\n'.encode()
    assert list(events_in([data])) == [Event("delta", {"text": "a\u2028b\x85c"})]


def test_a_lost_connection_is_taken_up_behind_the_last_event_seen() -> None:
    asked: list[tuple[str, str | None]] = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        asked.append((request.path, request.headers.get("last-event-id")))
        if request.command == "POST":
            send(request, STARTED, ONE, length=10_000)
        else:
            send(request, TWO, DONE)

    with server(answer) as url, Client(url) as client:
        events = list(client.turn("/chat", json={"message": "hello"}))
    assert [event.seq for event in events] == [1, 2, 3, 4]
    assert asked == [("/api/v1/chat", None), ("/api/v1/turns/t1/events", "2")]


def test_a_turn_that_cannot_be_taken_up_again_fails_in_the_end() -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        send(request, STARTED if request.command == "POST" else b"", length=10_000)

    with server(answer) as url, Client(url, wait_s=0.001) as client, pytest.raises(Unavailable):
        list(client.turn("/chat", json={"message": "hello"}))


def test_nobody_listening_is_a_fault_not_a_stack_of_errors() -> None:
    with Client("http://127.0.0.1:1") as client, pytest.raises(Unavailable, match="monGARS"):
        client.ask("GET", "/me")


@pytest.mark.parametrize(
    ("status", "kind"),
    [(404, Missing), (409, Conflict), (429, Busy), (501, NotBuilt), (503, Unavailable)],
)
def test_a_problem_becomes_the_fault_it_was(status: int, kind: type[Exception]) -> None:
    problem = {
        "type": "urn:mongars:problem:some-slug",
        "title": "T",
        "status": status,
        "detail": "what happened",
        "errors": [{"loc": ["body", "x"], "msg": "wrong"}],
    }
    fault = fault_of(status, json.dumps(problem).encode())
    assert type(fault) is kind
    assert (fault.detail, fault.problem) == ("what happened", "some-slug")
    assert fault.errors[0].loc == ("body", "x")
    assert meaning(fault).status == status


@pytest.mark.parametrize("content", [b"", b"<html>", b"[1]", b'"x"'])
def test_an_answer_that_is_no_problem_document_is_still_a_fault(content: bytes) -> None:
    assert "502" in fault_of(502, content).detail


def test_a_list_is_read_to_its_last_page() -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        second = "cursor=2" in request.path
        page = (
            {"items": [{"id": "b"}], "next": None}
            if second
            else {"items": [{"id": "a"}], "next": "2"}
        )
        content = json.dumps(page).encode()
        request.send_response(200)
        request.send_header("content-length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)

    with server(answer) as url, Client(url) as client:
        assert [one["id"] for one in client.every("/conversations")] == ["a", "b"]


def test_a_token_that_has_ended_is_got_again_once() -> None:
    good = {"2"}
    seen: list[str] = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        token = request.headers["authorization"].removeprefix("Bearer ")
        seen.append(token)
        request.send_response(200 if token in good else 401)
        request.send_header("content-length", "2")
        request.end_headers()
        request.wfile.write(b"{}")

    numbers = iter("123456")
    with server(answer) as url, Client(url, lambda: next(numbers)) as client:
        with pytest.raises(Unproven):  # a fresh one that is refused is not tried again
            client.ask("GET", "/me")
        client.ask("GET", "/me")
        good.add("3")
        good.remove("2")
        client.ask("GET", "/me")
    assert seen == ["1", "1", "2", "2", "3"]
