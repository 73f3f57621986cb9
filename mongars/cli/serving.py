"""`mongars serve` and `mongars migrate`."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from mongars.cli.state import AsJson, State, run, state_of


class Part(StrEnum):
    """One of the parts that `serve` joins."""

    api = "api"
    web = "web"
    worker = "worker"


def add_to(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command()(serve)
    app.command()(migrate)


def serve(
    context: typer.Context,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port.", show_default="8000")] = None,
    only: Annotated[Part | None, typer.Option(help="One part alone, for several machines.")] = None,
) -> None:
    """Serve the API, the page and the background work; prints the address.

    `--data DIR` names the data directory; several servers run side by side on different ports and
    data directories.
    """
    from mongars.server import serve as serve_until_told_to_stop

    state = state_of(context)
    settings = state.settings()
    listen: dict[str, Any] = {}
    if host is not None:
        listen["host"] = host
    if port is not None:
        listen["port"] = port
    if listen:
        settings = settings.model_copy(update={"api": settings.api.model_copy(update=listen)})
    serve_until_told_to_stop(settings, state.data_dir, only.value if only else None)


def migrate(context: typer.Context, as_json: AsJson = False) -> None:
    """Bring the database to the schema that this version speaks."""
    state = state_of(context)
    state.quiet_logs()
    before, after = run(_migrate(state))
    if as_json:
        import json

        print(json.dumps({"before": before, "after": after}))
    elif before == after:
        print(f"The database is up to date ({after}).")
    else:
        print(f"The database went from {before or 'nothing'} to {after}.")


async def _migrate(state: State) -> tuple[str | None, str | None]:
    from mongars.body import make_data_dir
    from mongars.database import Database, migrate

    make_data_dir(state.data_dir)
    async with Database.open(state.settings().database, state.data_dir) as database:
        return await migrate.upgrade(database)
