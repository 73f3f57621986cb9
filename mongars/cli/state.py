"""What every command knows: where the data lies, and how to say things."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from mongars.settings import Settings

T = TypeVar("T")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
As = Annotated[
    str | None,
    typer.Option("--as", metavar="NAME", help="Whose it is; needed when there are several people."),
]


@dataclass
class State:
    """The global options."""

    data: Path | None = None
    debug: bool = False

    @property
    def data_dir(self) -> Path:
        """The data directory: `--data`, else `MONGARS_DATA_DIR`, else the person's own."""
        from mongars.settings import default_data_dir

        return self.data.expanduser().absolute() if self.data else default_data_dir()

    def settings(self) -> "Settings":
        """All settings. Raises `NotConfigured`."""
        from mongars.settings import load

        return load(self.data_dir)

    def quiet_logs(self) -> None:
        """For commands that talk to a person: only warnings and errors are logged."""
        from mongars.telemetry import configure_logs

        settings = self.settings().telemetry
        if not self.debug and settings.level == "info":
            settings = settings.model_copy(update={"level": "error"})
        configure_logs(settings)


def state_of(context: typer.Context) -> State:
    """The global options that this command runs under."""
    state = context.find_object(State)
    assert state is not None
    return state


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a command's asynchronous part."""
    return asyncio.run(coroutine)
