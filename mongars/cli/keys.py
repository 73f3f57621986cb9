"""`mongars keys`: API keys, for programs that act for somebody."""

from typing import Annotated

import typer

from mongars.cli import output
from mongars.cli.state import As, AsJson, state_of

app = typer.Typer(
    name="keys", help="API keys, for other programs.", no_args_is_help=True, rich_markup_mode=None
)


@app.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the key is for.")],
    scopes: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated: chat, read, memory, metrics, admin (default: the first three)."
        ),
    ] = None,
    person: As = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it; it is shown this once."""
    from mongars.cli.local import client_for

    wanted = {"name": name, **({"scopes": scopes.split(",")} if scopes else {})}
    with client_for(state_of(context), person) as client:
        made = client.ask("POST", "/me/api-keys", json=wanted)
    if as_json:
        output.as_json(made)
    else:
        print(made["key"])


@app.command("list")
def list_(context: typer.Context, person: As = None, as_json: AsJson = False) -> None:
    """List the keys (never the secrets themselves)."""
    from mongars.cli.local import client_for

    with client_for(state_of(context), person) as client:
        rows = list(client.every("/me/api-keys"))
    if as_json:
        output.as_json({"items": rows})
    else:
        output.table(rows, {"id": "id", "name": "name", "scopes": "scopes"})


@app.command()
def rm(context: typer.Context, key_id: str, person: As = None) -> None:
    """Make a key worthless, at once."""
    from mongars.cli.local import client_for

    with client_for(state_of(context), person) as client:
        client.ask("DELETE", f"/me/api-keys/{key_id}")
    print("The key is worth nothing now.")
