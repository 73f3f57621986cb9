"""`mongars chat`: one question, or a talk."""

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mongars.cli.state import As, AsJson, state_of
from mongars.errors import Fault, Invalid

if TYPE_CHECKING:
    from mongars.cli.client import Client, Event

HELP = """\
/new          begin a new conversation
/again        another answer to the last question
/quit         leave (so does Ctrl-D); nothing is lost
Ctrl-C        stop the answer that is being written"""


def chat(
    context: typer.Context,
    message: Annotated[
        list[str] | None,
        typer.Argument(metavar="MESSAGE", help="What to say; left out: from a pipe, or a talk."),
    ] = None,
    person: As = None,
    conversation: Annotated[
        str | None,
        typer.Option("--conversation", "-c", metavar="ID", help="Go on with this conversation."),
    ] = None,
    new: Annotated[
        bool, typer.Option("--new", "-n", help="Begin a new one (pipes always do).")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Talk: one question, or back and forth.

    Goes through the running server if there is one. On a terminal it goes on with the conversation you were in last; `--new` begins another.
    """
    from mongars.cli.local import client_for

    if new and conversation:
        raise Invalid("--new begins a conversation and --conversation goes on with one; say one.")
    said = _said(message)
    if said is None and as_json:
        raise Invalid("--json needs a message: as an argument, or through a pipe.")
    with client_for(state_of(context), person) as client:
        talking = sys.stdin.isatty() and sys.stdout.isatty() and not as_json
        if conversation is None and not new and talking:
            conversation = _last(client)
        talk = Talk(client, conversation, as_json)
        if said is None:
            _converse(talk)
        elif not talk.say(said):
            raise typer.Exit(1)


def _said(message: list[str] | None) -> str | None:
    """The words to say: arguments, and what a pipe brings below them; `None` on a bare terminal."""
    words = " ".join(message or ())
    piped = "" if sys.stdin.isatty() else sys.stdin.read()
    said = "\n\n".join(part for part in (words, piped.rstrip("\n")) if part.strip())
    if said:
        return said
    if sys.stdin.isatty() and message is None:
        return None
    raise Invalid("There is nothing to say: the message is empty.")


def _last(client: "Client") -> str | None:
    """The conversation talked in last; lists have the pinned ones first, so both are asked."""
    newest = [
        one
        for pinned in (False, True)
        for one in client.ask("GET", "/conversations", params={"limit": 1, "pinned": pinned})[
            "items"
        ]
    ]
    newest.sort(key=lambda one: str(one["updated_at"]))
    return str(newest[-1]["id"]) if newest else None


@dataclass
class Talk:
    """A conversation from the command line: says things and shows the answers."""

    client: "Client"
    conversation_id: str | None
    as_json: bool
    answered: str | None = None
    """The id of the last answer."""

    def say(self, text: str) -> bool:
        """Say something and show the answer; whether it came to its end unstopped."""
        asked: dict[str, Any] = {"message": text}
        if self.conversation_id:
            asked["conversation_id"] = self.conversation_id
        return self._show(self.client.turn("/chat", json=asked))

    def again(self) -> bool:
        """Another answer to the last question."""
        if self.answered is None:
            raise Invalid("There is no answer yet to make again.")
        return self._show(self.client.turn(f"/messages/{self.answered}/regenerate"))

    def _show(self, events: "Iterator[Event]") -> bool:
        from mongars.cli.answer import follow, shown_on

        with contextlib.closing(shown_on(sys.stdout, as_json=self.as_json)) as shown:
            last = follow(self._stoppable(events), shown)
        return bool(last.data.get("finish_reason") != "stopped")

    def _stoppable(self, events: "Iterator[Event]") -> "Iterator[Event]":
        """The events; Ctrl-C asks the turn to stop, and the rest of it still comes."""
        turn_id, seen = None, 0
        while True:
            try:
                for event in events:
                    turn_id, seen = event.data.get("turn_id") or turn_id, event.seq
                    self._note(event)
                    yield event
                return
            except KeyboardInterrupt:
                if turn_id is None:
                    raise
                self.client.stop(turn_id)
                events = self.client.watch(turn_id, seen)

    def _note(self, event: "Event") -> None:
        if event.name == "started":
            self.conversation_id = event.data["conversation_id"]
        elif event.name == "done":
            self.answered = event.data["message"]["id"]
        elif event.name == "failed" and self.conversation_id is None:
            turn = self.client.ask("GET", f"/turns/{event.data['turn_id']}")
            self.conversation_id = turn["conversation_id"]  # the question was kept there


def _converse(talk: Talk) -> None:
    """Question and answer until the person leaves."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  (gives input() its history and its editing keys)
    _greet(talk)
    while True:
        try:
            said = input("\n› ").strip()
        except (EOFError, KeyboardInterrupt):
            print()
            return
        try:
            match said:
                case "":
                    continue
                case "/quit" | "/exit":
                    return
                case "/help":
                    print(HELP)
                case "/new":
                    talk.conversation_id = talk.answered = None
                    print("A new conversation.")
                case "/again":
                    talk.again()
                case _:
                    talk.say(said)
        except Fault as fault:
            print(f"mongars: {fault.detail}", file=sys.stderr)


def _greet(talk: Talk) -> None:
    parts = talk.client.state_of_parts()
    model = parts.get("model", {})
    if name := model.get("model"):
        print(f"{name} answers ({model.get('why') or model.get('backend')}). /help tells more.")
    elif detail := model.get("detail"):
        print(detail)
    if talk.conversation_id:
        title = talk.client.ask("GET", f"/conversations/{talk.conversation_id}").get("title")
        print(f"Going on with «{title or 'your last conversation'}»; /new begins another.")
