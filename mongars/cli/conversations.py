"""`mongars conversations`: list them, take them out, bring them in, remove them."""

import json
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mongars.cli import output
from mongars.cli.state import As, AsJson, state_of
from mongars.errors import Invalid

if TYPE_CHECKING:
    from mongars.cli.client import Client

app = typer.Typer(
    name="conversations",
    help="Conversations: list, export, import, remove.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

SMALL_BYTES = 1_000_000
"""Up to here an import goes in one request and is answered at once."""


@app.command("list")
def list_(
    context: typer.Context,
    person: As = None,
    limit: Annotated[int, typer.Option(help="How many, newest first.", min=1)] = 20,
    as_json: AsJson = False,
) -> None:
    """List conversations, newest first."""
    from itertools import islice

    from mongars.cli.local import client_for

    with client_for(state_of(context), person) as client:
        rows = list(islice(client.every("/conversations", limit=min(limit, 100)), limit))
    if as_json:
        output.as_json({"items": rows})
    else:
        for row in rows:
            row["updated_at"] = datetime.fromisoformat(row["updated_at"])
        output.table(rows, {"id": "id", "title": "title", "updated_at": "last changed"})


@app.command()
def export(
    context: typer.Context,
    conversation_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="One of them; left out: all.")
    ] = None,
    to: Annotated[Path | None, typer.Option(help="File to write; left out: stdout.")] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="One conversation, to read instead of to import.")
    ] = False,
    person: As = None,
) -> None:
    """Write conversations in monGARS' own format, as `conversations import` reads it."""
    from mongars.cli.local import client_for

    if markdown and not conversation_id:
        raise Invalid("--markdown writes one conversation; say which.")
    with client_for(state_of(context), person) as client:
        if markdown:
            address = f"/conversations/{conversation_id}/export"
            text = client.fetch(address, format="markdown").decode()
        else:
            text = _exported(client, conversation_id)
    if to is None:
        print(text)
    else:
        to.write_text(text + "\n")
        print(f"Written to {to}.", file=sys.stderr)


def _exported(client: "Client", conversation_id: str | None) -> str:
    """One conversation or all, archived ones too, each with its whole tree of messages."""
    ids = [conversation_id] if conversation_id else _all_ids(client)
    documents = [client.ask("GET", f"/conversations/{one}/export") for one in ids]
    together = [one for document in documents for one in document["conversations"]]
    whole = {**(documents[0] if documents else {"format": "mongars"}), "conversations": together}
    return json.dumps(whole, ensure_ascii=False, indent=2)


def _all_ids(client: "Client") -> list[str]:
    return [
        conversation["id"]
        for archived in (False, True)
        for conversation in client.every("/conversations", limit=100, archived=archived)
    ]


@app.command("import")
def import_(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A JSON or zip file; - for JSON on stdin.")],
    form: Annotated[
        str, typer.Option("--format", help="mongars, chatgpt or openwebui.")
    ] = "mongars",
    person: As = None,
    as_json: AsJson = False,
) -> None:
    """Bring conversations in; the same ones twice are there once."""
    from mongars.cli.local import client_for

    content = _read(file)
    with client_for(state_of(context), person) as client:
        if len(content) <= SMALL_BYTES and not content.startswith(b"PK"):
            told = client.ask("POST", "/conversations/import", json=_document(file, content, form))
        else:
            told = _as_a_job(client, file.name, content, form)
    if as_json:
        output.as_json(told)
        return
    imported = told["imported"]
    print(f"{imported['conversations']} conversations, {imported['messages']} messages came in.")
    for skipped in told.get("skipped", ()):
        print(f"skipped: {skipped.get('why')}", file=sys.stderr)


def _read(file: Path) -> bytes:
    try:
        return sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise Invalid(f"{file} cannot be read: {error.strerror}") from error


def _document(file: Path, content: bytes, form: str) -> Any:
    try:
        document = json.loads(content)
    except ValueError as error:
        raise Invalid(f"{file} cannot be read as JSON: {error}") from error
    return {"format": form, "conversations": document} if isinstance(document, list) else document


def _as_a_job(client: "Client", name: str, content: bytes, form: str) -> dict[str, Any]:
    """Send a large file whole, and wait for the work on it with a bar that shows how far it is."""
    from rich.progress import Progress

    begun = client.ask(
        "POST", "/conversations/import", files={"file": (name, content)}, data={"format": form}
    )
    state: dict[str, Any] = {}
    with Progress(console=output.console(stderr=True), transient=True) as progress:
        bar = progress.add_task("importing", total=None)
        for state in client.job(begun["job_id"]):
            progress.update(bar, completed=state["done"], total=state["total"])
    return dict(state.get("result") or {})


@app.command()
def rm(
    context: typer.Context,
    conversation_id: Annotated[str, typer.Argument(metavar="ID")],
    person: As = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove a conversation for good."""
    from mongars.cli.local import client_for

    output.sure("Remove this conversation for good?", yes=yes)
    with client_for(state_of(context), person) as client:
        client.ask("DELETE", f"/conversations/{conversation_id}")
    print("It is gone.")
