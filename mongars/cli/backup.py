"""`mongars backup` and `mongars restore`."""

from pathlib import Path
from typing import Annotated

import typer

from mongars.cli import output
from mongars.cli.state import AsJson, State, state_of
from mongars.errors import Conflict, NotBuilt


def add_to(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command()(backup)
    app.command()(restore)


def backup(
    context: typer.Context,
    file: Annotated[
        Path | None,
        typer.Argument(help="File to write; left out: mongars-DATE.tar in this directory."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Save everything people said and set in one file.

    The server may go on running. Models and caches stay out. The file is checked after it is written, and is for your eyes only.
    """
    from mongars import __version__
    from mongars.cli import archive
    from mongars.ids import now

    state = state_of(context)
    _only_sqlite(state)
    at = now()
    to = (file or Path(f"mongars-{at:%Y%m%dT%H%M%SZ}.tar")).absolute()
    manifest = archive.write(state.data_dir, to, version=__version__, at=at)
    size = to.stat().st_size
    if as_json:
        output.as_json({"file": str(to), "bytes": size, **manifest})
    else:
        print(f"{to} ({len(manifest['files'])} files, {size / 1e6:.1f} MB, checked)")


def restore(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A file that `mongars backup` wrote.")],
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Replace what is in the data directory.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Bring a backup back.

    It is checked first; what was there is kept aside, not deleted.
    """
    from mongars.cli import archive
    from mongars.cli.local import running_server
    from mongars.ids import now

    state = state_of(context)
    _only_sqlite(state)
    manifest = archive.check(file)
    _not_newer(file, manifest.get("revision"))
    if url := running_server(state.data_dir):
        raise Conflict(f"monGARS is running over this directory at {url}; stop it first.")
    if state.data_dir.exists() and any(state.data_dir.iterdir()):
        output.sure(f"Put the backup in the place of {state.data_dir}?", yes=yes)
    aside = archive.unpack(file, state.data_dir, at=now())
    if as_json:
        output.as_json({"data": str(state.data_dir), "before": str(aside) if aside else None})
        return
    print(f"{state.data_dir} is as it was at {manifest['at']}.")
    if aside:
        print(f"What was there before lies in {aside}; delete it when you no longer need it.")


def _only_sqlite(state: State) -> None:
    url = state.settings().database.url
    if url is None:
        return
    if url.get_secret_value().startswith("postgres"):
        raise NotBuilt(
            "Backup and restore of PostgreSQL are not built yet; use pg_dump and pg_restore on the"
            " database, and copy the data directory."
        )
    raise NotBuilt(
        "Only the database inside the data directory is backed up; MONGARS_DATABASE__URL names"
        " another."
    )


def _not_newer(file: Path, revision: object) -> None:
    """Raises `Conflict` when a newer monGARS wrote it, whose schema this one cannot read."""
    from mongars.database import migrate

    newest = migrate.newest()
    if isinstance(revision, str) and revision > newest:
        raise Conflict(
            f"{file} was written by a newer monGARS (schema {revision}; this one knows {newest})."
        )
