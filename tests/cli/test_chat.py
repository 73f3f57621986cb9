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

import pytest

from mongars.cli.local import auth_of
from mongars.cli.state import State
from tests.cli.running import PASSWORD, PROGRAM, environment, mongars, serving

pytestmark = pytest.mark.slow


def add(data: Path, name: str) -> None:
    """Add somebody, without a process of its own."""

    async def added() -> None:
        async with auth_of(State(data)) as auth:
            await auth.add_person(name, PASSWORD)

    asyncio.run(added())


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory with one person."""
    add(tmp_path / "data", "marie")
    return tmp_path / "data"


def events(told: subprocess.CompletedProcess[str]) -> list[dict[str, object]]:
    """What `--json` printed."""
    assert told.returncode == 0, told.stderr
    return [json.loads(line) for line in told.stdout.splitlines()]


def test_a_pipe_gets_the_answer_and_nothing_else(data: Path) -> None:
    told = mongars("chat", data=data, said="hello")
    assert told.returncode == 0, told.stderr
    assert told.stdout.strip()
    assert "\x1b" not in told.stdout
    assert told.stderr == ""


def test_without_a_server_and_with_one_the_same_is_said(data: Path) -> None:
    alone = events(mongars("chat", "--json", "hello", data=data))
    with serving(data, "--only", "api"):
        served = events(mongars("chat", "--json", "hello", data=data))
    assert [one["type"] for one in (alone[-1], served[-1])] == ["done", "done"]
    assert alone[-1]["message"]["text"] == served[-1]["message"]["text"]  # type: ignore[index]
    assert [one["seq"] for one in served] == list(range(1, len(served) + 1))


def test_a_conversation_goes_on_and_a_pipe_begins_a_new_one(data: Path) -> None:
    with serving(data, "--only", "api"):
        first = events(mongars("chat", "--json", "one", data=data))
        conversation = str(first[-1]["message"]["conversation_id"])  # type: ignore[index]
        mongars("chat", "--conversation", conversation, "two", data=data)
        mongars("chat", "three", data=data)
        told = mongars("conversations", "list", "--json", data=data)
        exported = mongars("conversations", "export", conversation, data=data)
    assert len(json.loads(told.stdout)["items"]) == 2
    document = json.loads(exported.stdout)
    assert document["format"] == "mongars"
    said = [
        one["text"] for one in document["conversations"][0]["messages"] if one["role"] == "user"
    ]
    assert said == ["one", "two"]


def test_a_conversation_can_be_written_out_to_be_read(data: Path) -> None:
    with serving(data, "--only", "api"):
        (done,) = events(mongars("chat", "--json", "[[say Bonjour]]", data=data))[-1:]
        conversation = str(done["message"]["conversation_id"])  # type: ignore[index]
        told = mongars("conversations", "export", conversation, "--markdown", data=data)
    assert "Bonjour" in told.stdout
    assert not told.stdout.startswith("{")


def test_what_is_exported_can_be_brought_in_by_somebody_else(data: Path, tmp_path: Path) -> None:
    add(data, "paul")
    file = tmp_path / "out.json"
    with serving(data, "--only", "api"):
        assert mongars("chat", "--as", "marie", "for paul", data=data).returncode == 0
        out = mongars("conversations", "export", "--to", file, "--as", "marie", data=data)
        assert out.returncode == 0, out.stderr
        imported = mongars("conversations", "import", file, "--as", "paul", "--json", data=data)
        assert json.loads(imported.stdout)["imported"]["messages"] == 2
        again = mongars("conversations", "import", file, "--as", "paul", "--json", data=data)
        assert json.loads(again.stdout)["imported"]["messages"] == 0
        removed = mongars("conversations", "list", "--json", "--as", "paul", data=data)
        (brought,) = json.loads(removed.stdout)["items"]
        gone = mongars("conversations", "rm", brought["id"], "--yes", "--as", "paul", data=data)
        assert gone.returncode == 0, gone.stderr
        not_his = mongars("chat", "--as", "paul", "-c", "nobodys", "x", data=data)
    assert not_his.returncode == 1
    assert file.stat().st_mode & 0o777 == 0o600


def test_who_is_talking_must_be_clear(data: Path, tmp_path: Path) -> None:
    nobody = mongars("chat", "hello", data=tmp_path / "empty")
    assert nobody.returncode == 3
    assert "users add" in nobody.stderr
    assert mongars("chat", "--as", "nobody", "hello", data=data).returncode == 1
    add(data, "paul")
    unclear = mongars("chat", "hello", data=data)
    assert unclear.returncode == 2
    assert "marie" in unclear.stderr
    assert "paul" in unclear.stderr
    assert mongars("chat", data=data, said="   ").returncode == 2


def test_a_server_that_was_killed_is_not_taken_for_a_running_one(data: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    (data / "server.json").write_text(json.dumps({"url": "http://127.0.0.1:1", "pid": ended.pid}))
    assert mongars("chat", "hello", data=data).returncode == 0


def test_a_key_works_until_it_is_removed(data: Path) -> None:
    import httpx

    with serving(data, "--only", "api") as served:
        made = json.loads(mongars("keys", "create", "script", "--json", data=data).stdout)
        assert made["key"].startswith("mg_")
        head = {"authorization": f"Bearer {made['key']}"}
        assert httpx.get(f"{served.url}/api/v1/me", headers=head).status_code == 200
        assert made["id"] in mongars("keys", "list", data=data).stdout
        assert mongars("keys", "rm", made["id"], data=data).returncode == 0
        assert httpx.get(f"{served.url}/api/v1/me", headers=head).status_code == 401


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


def test_a_talk_on_a_terminal(data: Path) -> None:
    with serving(data, "--only", "api"), terminal_at(data) as terminal:
        terminal.type("hello\n")
        terminal.until(lambda shown: shown.count("›") >= 2)
        terminal.type("/new\n")
        terminal.until(lambda shown: "A new conversation." in shown)
        terminal.type("[[fail 0]]\n")
        terminal.until(lambda shown: shown.count("›") >= 4)
        terminal.type("/quit\n")
        assert terminal.ended() == 0
    assert "Traceback" not in terminal.shown


def test_ctrl_c_stops_the_answer_and_the_talk_goes_on(data: Path) -> None:
    with serving(data, "--only", "api"):
        with terminal_at(data) as terminal:
            terminal.type("[[say gargantua pantagruel]] [[hold]]\n")
            terminal.until(lambda shown: shown.count("gargantua") > 1)
            os.kill(terminal.process.pid, signal.SIGINT)
            terminal.until(lambda shown: shown.count("›") >= 2)
            terminal.type("\x04")
            assert terminal.ended() == 0
        told = mongars("conversations", "export", data=data)
    (conversation,) = json.loads(told.stdout)["conversations"]
    assert [one["role"] for one in conversation["messages"]] == ["user", "assistant"]
    assert conversation["messages"][1]["text"] == "gargantua"
    assert "Traceback" not in terminal.shown
