"""`mongars models`: which models there are, better ones to add, and which one answers.

Through the running server where there is one; else straight on the data directory, which needs no
account and loads no model.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, Protocol
from urllib.parse import quote

import typer

from mongars.cli import output
from mongars.cli.state import As, AsJson, State, run, state_of
from mongars.errors import Conflict

if TYPE_CHECKING:
    from mongars.cli.client import Client
    from mongars.llm import Models

app = typer.Typer(
    name="models",
    help="Language models: list, add, choose, remove.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Report = Callable[[int, int | None], None]
"""Told the bytes that are here and the bytes in all."""

INSTALLED = {"id": "model", "size": "size", "licence": "licence", "in_use": "in use"}
RECOMMENDED = {
    "name": "better models for here",
    "size": "download",
    "memory": "memory",
    "speed": "tokens/s (rough)",
    "licence": "licence",
    "remark": "",
}


class Way(Protocol):
    """How the command reaches the models."""

    def list(self, all_models: bool) -> dict[str, Any]:
        """As `GET /models` answers."""

    def offer(self, source: str) -> str:
        """What a pull would bring, in a sentence."""

    def pull(self, source: str, report: Report) -> dict[str, Any]:
        """Add it; its `model`, `digest` and `size_bytes`."""

    def use(self, model: str) -> str:
        """Choose it; a sentence that says from when on."""

    def remove(self, model: str) -> None:
        """Delete it."""


@app.command("list")
def list_(
    context: typer.Context,
    all_models: Annotated[
        bool, typer.Option("--all", help="Also recommended models that are too large for here.")
    ] = False,
    person: As = None,
    as_json: AsJson = False,
) -> None:
    """List what is here, and better models that this machine can carry."""
    with _way(state_of(context), person) as way:
        told = way.list(all_models)
    if as_json:
        output.as_json(told)
        return
    for one in told["items"]:
        one["size"] = _size(one["size_bytes"])
    output.table(told["items"], INSTALLED)
    for one in told["recommended"]:
        one["size"] = _size(one["download_bytes"])
        one["memory"] = _size(one["memory_bytes"])
        one["speed"] = f"{one['tokens_per_s']:.0f}" if one["tokens_per_s"] >= 1 else "< 1"
        tight = "; needs other programs to end first" if one["tight"] else ""
        one["remark"] = one["why_not"] or f"{one['note']}{tight}"
    output.table(told["recommended"], RECOMMENDED)
    for notice in told["notices"]:
        print(notice, file=sys.stderr)
    print("Add one: mongars models pull NAME. Choose one: mongars models use MODEL.")


@app.command()
def pull(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A recommended name, OWNER/REPO[/FILE.gguf], https://…/FILE.gguf or ollama/NAME.",
        ),
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Accept its licence and its size.")] = False,
    person: As = None,
    as_json: AsJson = False,
) -> None:
    """Add a model: shows licence and size first, then downloads; goes on where it stopped."""
    with _way(state_of(context), person) as way:
        if not yes:
            output.sure(f"{way.offer(source)} Download it?", yes=False)
        with _progress() as report:
            added = way.pull(source, report)
    if as_json:
        output.as_json(added)
    else:
        print(f"{added['model']} is here. Let it answer: mongars models use {added['model']}")


@app.command()
def use(
    context: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="As `list` shows it, or auto.")],
    person: As = None,
) -> None:
    """Let this model answer, where a conversation names no other."""
    with _way(state_of(context), person) as way:
        print(way.use(model))


@app.command()
def rm(
    context: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="As `list` shows it.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    person: As = None,
) -> None:
    """Remove a model from this machine."""
    output.sure(f"Remove {model} from this machine?", yes=yes)
    with _way(state_of(context), person) as way:
        way.remove(model)
    print(f"{model} is gone.")


@contextlib.contextmanager
def _way(state: State, person: str | None) -> Iterator[Way]:
    from mongars.cli.local import client_for, running_server

    state.quiet_logs()
    if running_server(state.data_dir) is None:
        yield Here(state)
        return
    with client_for(state, person) as client:
        yield There(client)


class Here:
    """Straight on the data directory."""

    def __init__(self, state: State) -> None:
        self._state = state

    def list(self, all_models: bool) -> dict[str, Any]:
        """As `GET /models` answers, without the servers that only a running monGARS asks."""
        from mongars.llm import facts_of

        async def told() -> dict[str, Any]:
            async with self._models() as models:
                inventory = await models.inventory()
                in_use = models.library.in_use()
                better = models.recommended(all_models=all_models)
            return {
                "items": [one.facts(in_use) for one in inventory.installed],
                "next": None,
                "in_use": in_use,
                "recommended": [facts_of(one) for one in better],
                "notices": list(inventory.notices),
            }

        return run(told())

    def offer(self, source: str) -> str:
        """What a pull would bring."""

        async def told() -> str:
            async with self._models() as models:
                return (await models.downloads.offer(source)).sentence

        return run(told())

    def pull(self, source: str, report: Report) -> dict[str, Any]:
        """Add it, in this process."""

        async def progress(done: int, total: int | None) -> None:
            report(done, total)

        async def added() -> dict[str, Any]:
            async with self._models() as models:
                card = await models.downloads.pull(source, progress=progress)
            return {
                "model": card.full_name,
                "digest": card.digest,
                "size_bytes": card.size_bytes,
            }

        return run(added())

    def use(self, model: str) -> str:
        """Choose it for the next start."""

        async def chosen() -> None:
            async with self._models() as models:
                await models.use(model)

        run(chosen())
        return f"From the next start on: {model}."

    def remove(self, model: str) -> None:
        """Delete it."""

        async def removed() -> None:
            async with self._models() as models:
                await models.remove(model)

        run(removed())

    def _models(self) -> contextlib.AbstractAsyncContextManager["Models"]:
        from mongars.body import make_data_dir
        from mongars.llm import Models

        make_data_dir(self._state.data_dir)
        return Models.open(self._state.settings().llm, self._state.data_dir)


class There:
    """Through the running server."""

    def __init__(self, client: "Client") -> None:
        self._client = client

    def list(self, all_models: bool) -> dict[str, Any]:
        """As `GET /models` answers."""
        told: dict[str, Any] = self._client.ask(
            "GET", "/models", params={"all_models": "true" if all_models else "false"}
        )
        return told

    def offer(self, source: str) -> str:
        """What a pull would bring: the server refuses to pull without a yes, and says what."""
        try:
            self._client.ask("POST", "/models/pull", json={"source": source})
        except Conflict as fault:
            if fault.problem == "license-not-accepted":
                return fault.detail.partition(" Ask again")[0]
            raise
        return source

    def pull(self, source: str, report: Report) -> dict[str, Any]:
        """Add it, as a job of the server."""
        from mongars.cli.client import fault_in

        asked = {"source": source, "accept_license": True}
        job_id = self._client.ask("POST", "/models/pull", json=asked)["job_id"]
        job: dict[str, Any] = {}
        try:
            for event in self._client.events("GET", f"/jobs/{job_id}/events"):
                job = dict(event.data)
                report(job["done"], job["total"])
        except KeyboardInterrupt:
            print("The server goes on with it in the background.", file=sys.stderr)
            raise
        if job.get("state") != "done":
            raise fault_in(job.get("error") or {"detail": f"The download was {job.get('state')}."})
        return dict(job["result"])

    def use(self, model: str) -> str:
        """Choose it."""
        self._client.ask("POST", "/models/use", json={"model": model})
        return f"From now on: {model}."

    def remove(self, model: str) -> None:
        """Delete it."""
        self._client.ask("DELETE", f"/models/{quote(model, safe='/')}")


@contextlib.contextmanager
def _progress() -> Iterator[Report]:
    """A bar on a terminal; nothing in a pipe."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    with Progress(
        *Progress.get_default_columns()[:2],
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as bar:
        task = bar.add_task("downloading", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _size(size_bytes: int | None) -> str:
    if size_bytes is None:
        return ""
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.0f} MB"
