"""The program `mongars`: its global options, its commands, and how it fails.

Commands import what they need when they run, so that `mongars --help` stays quick.
"""

import os
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

from mongars import __version__
from mongars.cli import backup, conversations, keys, later, models, serving, users
from mongars.cli.chat import chat
from mongars.cli.doctor import doctor
from mongars.cli.state import State, state_of
from mongars.errors import Fault, meaning

app = typer.Typer(
    name="mongars",
    help="monGARS: a personal AI that people run themselves.",
    epilog="Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not configured or not built.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # help without rich: a quarter of a second less
    context_settings={"help_option_names": ["-h", "--help"]},
)
serving.add_to(app)
app.command()(chat)
app.command()(doctor)
backup.add_to(app)
app.add_typer(models.app)
app.add_typer(users.app)
app.add_typer(conversations.app)
app.add_typer(keys.app)
later.add_to(app)

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells expect it."""

VALUED, FLAGS = ("--data",), ("--debug",)


@app.callback()
def options(
    context: typer.Context,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Data directory (default: $MONGARS_DATA_DIR, else ~/.local/share/mongars).",
        ),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the version.",
            callback=lambda asked: _version(asked),
            is_eager=True,
        ),
    ] = False,
) -> None:
    """monGARS: a personal AI that people run themselves.

    `--data` and `--debug` may stand before or after the command.
    """
    state = state_of(context)
    state.data, state.debug = data, debug


def _version(asked: bool) -> None:
    if asked:
        print(f"mongars {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line and exit with the code that the fault means."""
    os.umask(0o077)
    state = State()
    arguments = globals_first(sys.argv[1:])
    state.debug = "--debug" in arguments[:3]
    try:
        app(args=arguments, prog_name="mongars", obj=state)
    except Fault as fault:
        sys.exit(_failed(fault, state))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # Whoever read us has gone (`mongars … | head`): nothing more to say, nor to flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:  # noqa: BLE001  (a command is a unit of work; this is its end)
        sys.exit(_unexpected(error, state))


def globals_first(arguments: list[str]) -> list[str]:
    """The arguments with the global options in front, wherever a person has put them."""
    moved: list[str] = []
    kept: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument == "--":
            kept.append(argument)
            kept.extend(rest)
        elif argument in FLAGS or argument.startswith(tuple(f"{name}=" for name in VALUED)):
            moved.append(argument)
        elif argument in VALUED:
            moved.extend([argument, *[value for value in [next(rest, None)] if value is not None]])
        else:
            kept.append(argument)
    return moved + kept


def _failed(fault: Fault, state: State) -> int:
    if state.debug:
        traceback.print_exception(fault)
    print(f"mongars: {fault.detail or fault.title}", file=sys.stderr)
    for wrong in fault.errors:
        print(f"  {'.'.join(str(part) for part in wrong.loc)}: {wrong.msg}", file=sys.stderr)
    return meaning(fault).exit_code


def _unexpected(error: Exception, state: State) -> int:
    if state.debug:
        traceback.print_exception(error)
    else:
        print(
            f"mongars: an error nobody expected ({type(error).__name__}: {error});"
            " run the command again with --debug to see where it came from.",
            file=sys.stderr,
        )
    return 1
