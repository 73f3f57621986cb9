"""Commands whose names are fixed and whose parts are not built yet: they say so, and exit with 3."""

from collections.abc import Callable

import typer

from mongars.errors import NotBuilt

PARTS = {
    "memories": "The memory of facts and documents",
    "secrets": "Sealing secrets for a cluster",
}


def add_to(app: typer.Typer) -> None:
    """Add these commands to the program."""
    for name, part in PARTS.items():
        app.command(
            name,
            help=f"{part} (not built yet).",
            context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
        )(_saying(part))


def _saying(part: str) -> Callable[[], None]:
    def command() -> None:
        raise NotBuilt(f"{part} is not built yet; docs/index.md says what is.")

    return command
