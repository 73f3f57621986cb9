"""`mongars doctor`: what is here, what is missing, and the command that adds it."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from mongars.cli import output
from mongars.cli.state import AsJson, State, run, state_of
from mongars.errors import Fault

if TYPE_CHECKING:
    from mongars.cli.checks import Check

MARKS = {"ok": "[green]✓[/]", "note": "[yellow]–[/]", "missing": "[red]✗[/]"}


def doctor(context: typer.Context, as_json: AsJson = False) -> None:
    """Explain what is missing and how to add it.

    Exits with 1 when something that is needed is missing.
    """
    checks = run(_checks(state_of(context)))
    well = all(check.found != "missing" for check in checks)
    if as_json:
        output.as_json({"ok": well, "checks": [asdict(check) for check in checks]})
    else:
        _show(checks, well=well)
    if not well:
        raise typer.Exit(1)


async def _checks(state: State) -> "list[Check]":
    from mongars.cli.checks import all_checks

    try:
        settings = state.settings()
    except Fault as fault:
        return [check async for check in all_checks(fault, state.data_dir)]
    return [check async for check in all_checks(settings, state.data_dir)]


def _show(checks: "list[Check]", *, well: bool) -> None:
    from rich.markup import escape
    from rich.table import Table

    shown = Table.grid(padding=(0, 2))
    for check in checks:
        shown.add_row(MARKS[check.found], check.name, escape(check.said))
        if check.remedy and check.found == "missing":
            shown.add_row("", "", f"[bold]→ {escape(check.remedy)}[/]")
    console = output.console()
    console.print(shown)
    console.print("\nEverything needed is here." if well else "\nWhat is marked ✗ is needed.")
