"""Talking from the command line, as real processes, with a server and without one."""

import asyncio
import codecs
import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from mongars.cli.local import auth_of
from mongars.cli.state import State
from tests.cli.running import PASSWORD, PROGRAM, Served, environment, mongars, serving

pytestmark = pytest.mark.slow


def add(data: Path, name: str) -> None:
    """Add somebody, without a process of its own."""

    async def added() -> None:
        async with auth_of(State(data)) as auth:
            await auth.add_person(name, PASSWORD)

    asyncio.run(added())


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory with one person, and no server over it."""
    add(tmp_path / "data", "marie")
    return tmp_path / "data"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One server for the tests that only need some server; each test brings its own people."""
    data = tmp_path_factory.mktemp("served") / "data"
    add(data, "somebody")
    with serving(data, "--only", "api") as running:
        yield running


def events(told: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """What `--json` printed."""
    assert told.returncode == 0, told.stderr
    return [json.loads(line) for line in told.stdout.splitlines()]


def test_without_a_server_a_pipe_gets_the_answer_and_nothing_else(data: Path) -> None:
    (data / "server.json").write_text(json.dumps({"url": "http://127.0.0.1:1", "pid": ended_pid()}))
    told = mongars("chat", data=data, said="[[say one **two**]]")
    assert (told.returncode, told.stdout, told.stderr) == (0, "one **two**\n", "")


def ended_pid() -> int:
    """The id of a process that has ended, as a killed server leaves it behind."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    return ended.pid


def test_a_running_server_is_talked_through_and_a_conversation_goes_on(served: Served) -> None:
    add(served.data, "ada")
    first = events(mongars("chat", "--as", "ada", "--json", "one", data=served.data))
    assert [one["seq"] for one in first] == list(range(1, len(first) + 1))
    conversation = first[-1]["message"]["conversation_id"]
    told = mongars("chat", "--as", "ada", "-c", conversation, "[[say B]]", data=served.data)
    assert (told.returncode, told.stdout) == (0, "B\n")
    mongars("chat", "--as", "ada", "a new one", data=served.data)
    listed = mongars("conversations", "list", "--json", "--as", "ada", data=served.data)
    assert len(json.loads(listed.stdout)["items"]) == 2
    export = ("conversations", "export", conversation, "--as", "ada")
    document = json.loads(mongars(*export, data=served.data).stdout)
    (exported,) = document["conversations"]
    assert [one["text"] for one in exported["messages"]] == ["one", "one", "[[say B]]", "B"]
    readable = mongars(*export, "--markdown", data=served.data).stdout
    assert "[[say B]]" in readable
    assert not readable.startswith("{")


def test_what_is_exported_can_be_brought_in_by_somebody_else_once(
    served: Served, tmp_path: Path
) -> None:
    add(served.data, "eva")
    add(served.data, "paul")
    file = tmp_path / "out.json"
    events(mongars("chat", "--as", "eva", "--json", "for paul", data=served.data))
    out = mongars("conversations", "export", "--to", file, "--as", "eva", data=served.data)
    assert out.returncode == 0, out.stderr
    assert file.stat().st_mode & 0o777 == 0o600
    for messages in (2, 0):  # the second time they are there already
        told = mongars("conversations", "import", file, "--as", "paul", "--json", data=served.data)
        assert json.loads(told.stdout)["imported"]["messages"] == messages
    listed = mongars("conversations", "list", "--json", "--as", "paul", data=served.data)
    (brought,) = json.loads(listed.stdout)["items"]
    gone = mongars("conversations", "rm", brought["id"], "--yes", "--as", "paul", data=served.data)
    assert gone.returncode == 0, gone.stderr
    not_his = mongars("chat", "--as", "paul", "-c", brought["id"], "x", data=served.data)
    assert not_his.returncode == 1


def test_who_is_talking_must_be_clear(served: Served, tmp_path: Path) -> None:
    nobody = mongars("chat", "hello", data=tmp_path / "empty")
    assert nobody.returncode == 3
    assert "users add" in nobody.stderr
    add(served.data, "lea")
    assert mongars("chat", "--as", "nobody", "hello", data=served.data).returncode == 1
    unclear = mongars("chat", "hello", data=served.data)
    assert unclear.returncode == 2
    assert "lea" in unclear.stderr
    assert "somebody" in unclear.stderr
    assert mongars("chat", data=served.data, said="   ").returncode == 2


def test_a_failed_answer_is_a_fault_with_the_words_that_came(served: Served) -> None:
    add(served.data, "tom")
    told = mongars("chat", "--as", "tom", "[[words 9]] [[fail 2]]", data=served.data)
    assert told.returncode == 1
    assert told.stdout.startswith("word1 word2")
    assert told.stderr.startswith("mongars: ")


def test_a_key_works_until_it_is_removed(served: Served) -> None:
    add(served.data, "kim")
    own = ("--as", "kim")
    made = json.loads(mongars("keys", "create", "script", "--json", *own, data=served.data).stdout)
    assert made["key"].startswith("mg_")
    head = {"authorization": f"Bearer {made['key']}"}
    assert httpx.get(f"{served.url}/api/v1/me", headers=head).status_code == 200
    assert made["id"] in mongars("keys", "list", *own, data=served.data).stdout
    assert mongars("keys", "rm", made["id"], *own, data=served.data).returncode == 0
    assert httpx.get(f"{served.url}/api/v1/me", headers=head).status_code == 401


def test_a_command_leaves_no_open_session_behind(served: Served) -> None:
    add(served.data, "zoe")
    events(mongars("chat", "--as", "zoe", "--json", "hello", data=served.data))
    form = {"grant_type": "password", "username": "zoe", "password": PASSWORD}
    token = httpx.post(f"{served.url}/api/v1/token", data=form).json()["access_token"]
    head = {"authorization": f"Bearer {token}"}
    sessions = httpx.get(f"{served.url}/api/v1/me/sessions", headers=head).json()["items"]
    assert len(sessions) == 1


class Terminal:
    """`mongars chat` on a terminal of its own."""

    def __init__(self, data: Path, *arguments: str) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [*PROGRAM, "--data", str(data), "chat", *arguments],
            cwd="/",
            env=environment(TERM="xterm"),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.shown = ""

    def type(self, text: str) -> None:
        """As a person would."""
        os.write(self._ours, text.encode())

    def until(self, seen: Callable[[str], bool], within_s: float = 30) -> None:
        """Read what is shown until it is as expected."""
        end = time.monotonic() + within_s
        while not seen(self.shown):
            assert time.monotonic() < end, self.shown
            if select.select([self._ours], [], [], 0.1)[0]:
                try:
                    self.shown += self._decoder.decode(os.read(self._ours, 65536))
                except OSError:  # the other side is closed
                    assert seen(self.shown), self.shown
                    return

    def ended(self) -> int:
        """Wait for its end; its exit code."""
        return self.process.wait(30)

    def close(self) -> None:
        """Leave nothing behind."""
        self.process.kill()
        self.process.wait(5)
        os.close(self._ours)


@contextlib.contextmanager
def terminal_at(data: Path, *arguments: str) -> Iterator[Terminal]:
    """`mongars chat` on a terminal, at its first prompt."""
    terminal = Terminal(data, *arguments)
    try:
        terminal.until(lambda shown: "›" in shown)
        yield terminal
    finally:
        terminal.close()


def test_on_a_terminal_one_talks_stops_and_goes_on(served: Served) -> None:
    add(served.data, "max")
    with terminal_at(served.data, "--as", "max") as terminal:
        terminal.type("[[say gargantua pantagruel]] [[hold]]\n")
        terminal.until(lambda shown: shown.count("gargantua") > 1)
        os.kill(terminal.process.pid, signal.SIGINT)
        terminal.until(lambda shown: shown.count("›") >= 2)
        terminal.type("[[fail 0]]\n")
        terminal.until(lambda shown: "mongars: " in shown and shown.count("›") >= 3)
        terminal.type("/new\n")
        terminal.until(lambda shown: "A new conversation." in shown)
        terminal.type("\x04")
        assert terminal.ended() == 0
    assert "Traceback" not in terminal.shown
    told = mongars("conversations", "export", "--as", "max", data=served.data)
    (conversation,) = json.loads(told.stdout)["conversations"]
    said = [one["text"] for one in conversation["messages"]]
    assert said[1] == "gargantua"
    assert said[2] == "[[fail 0]]"
    with terminal_at(served.data, "--as", "max") as again:
        assert "Going on with" in again.shown
        again.type("/quit\n")
        assert again.ended() == 0
