"""`mongars serve` and `mongars migrate`."""

import asyncio
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from mongars.cli import output
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
    port: Annotated[
        int | None, typer.Option(help="Port.", show_default="8000", min=1, max=65535)
    ] = None,
    only: Annotated[Part | None, typer.Option(help="One part alone, for several machines.")] = None,
) -> None:
    """Serve API, page and background work; prints the address.

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
    """Bring the database to this version's schema.

    Before it changes the schema of a SQLite database that is in use, it saves a backup in `backups/`
    in the data directory.
    """
    state = state_of(context)
    state.quiet_logs()
    done = run(_migrate(state))
    if as_json:
        output.as_json(asdict(done))
    elif done.before == done.after:
        print(f"The database is up to date ({done.after}).")
    else:
        print(f"The database went from {done.before or 'nothing'} to {done.after}.")
        if done.backup:
            print(f"As it was before: {done.backup}")


@dataclass(frozen=True)
class Migrated:
    """The revision before and after, and the backup that was made in between."""

    before: str | None
    after: str | None
    backup: str | None = None


async def _migrate(state: State) -> Migrated:
    from mongars.body import make_data_dir
    from mongars.database import Database, migrate

    make_data_dir(state.data_dir)
    settings = state.settings().database
    async with Database.open(settings, state.data_dir) as database:
        at = await migrate.current(database)
        saved = None
        if at not in (None, migrate.newest()) and settings.url is None:
            saved = await asyncio.to_thread(_save, state.data_dir, migrate.newest())
        before, after = await migrate.upgrade(database)
    return Migrated(before, after, saved)


def _save(data_dir: Path, revision: str) -> str:
    from mongars import __version__
    from mongars.cli import archive
    from mongars.ids import now

    at = now()
    to = data_dir / "backups" / f"before-{revision}-{at:%Y%m%dT%H%M%SZ}.tar"
    archive.write(data_dir, to, version=__version__, at=at)
    return str(to)
