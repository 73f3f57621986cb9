"""`mongars conversations`: list them, take them out, bring them in, remove them."""

import json
import sys
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
        output.table(rows, {"id": "id", "title": "title", "updated_at": "last changed"})


@app.command()
def export(
    context: typer.Context,
    conversation_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="One of them; left out: all.")
    ] = None,
    to: Annotated[Path | None, typer.Option(help="File to write; left out: stdout.")] = None,
    person: As = None,
) -> None:
    """Write conversations in monGARS' own format, as `conversations import` reads it."""
    from mongars.cli.local import client_for

    with client_for(state_of(context), person) as client:
        chosen = (
            [client.ask("GET", f"/conversations/{conversation_id}")]
            if conversation_id
            else list(client.every("/conversations", limit=100))
        )
        exported = [_exported(client, conversation) for conversation in chosen]
    document = {"format": "mongars", "conversations": exported}
    text = json.dumps(document, ensure_ascii=False, indent=2)
    if to is None:
        print(text)
    else:
        to.write_text(text + "\n")
        print(f"{len(exported)} conversations are in {to}.", file=sys.stderr)


def _exported(client: "Client", conversation: dict[str, Any]) -> dict[str, Any]:
    messages = client.every(f"/conversations/{conversation['id']}/messages", limit=100)
    return {
        "title": conversation["title"],
        "messages": [
            {
                "role": message["role"],
                "text": message["text"],
                "at": message["at"],
                "external_id": message["id"],
            }
            for message in messages
        ],
    }


@app.command("import")
def import_(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A JSON file; - for stdin.", allow_dash=True)],
    form: Annotated[
        str, typer.Option("--format", help="mongars, chatgpt or openwebui.")
    ] = "mongars",
    person: As = None,
    as_json: AsJson = False,
) -> None:
    """Bring conversations in; the same ones twice are there once."""
    from mongars.cli.local import client_for

    document = _read(file)
    if isinstance(document, list):
        document = {"format": form, "conversations": document}
    with client_for(state_of(context), person) as client:
        told = client.ask("POST", "/conversations/import", json=document)
    if as_json:
        output.as_json(told)
        return
    imported = told["imported"]
    print(f"{imported['conversations']} conversations, {imported['messages']} messages came in.")
    for skipped in told.get("skipped", ()):
        print(f"skipped: {skipped.get('why')}", file=sys.stderr)


def _read(file: Path) -> Any:
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text()
        return json.loads(text)
    except (OSError, ValueError) as error:
        raise Invalid(f"{file} cannot be read as JSON: {error}") from error


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
