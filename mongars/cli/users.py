"""`mongars users`: the people of this data directory, straight on its database."""

import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mongars.cli import output
from mongars.cli.state import AsJson, State, run, state_of

if TYPE_CHECKING:
    from mongars.auth import Auth

app = typer.Typer(
    name="users",
    help="People: add, list, disable, change.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The name they sign in with.")]
FromStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from stdin instead of asking.")
]


class Role(StrEnum):
    """What somebody may do."""

    user = "user"
    admin = "admin"


def with_auth(state: State, does: "Callable[[Auth], Awaitable[Any]]") -> Any:
    """Do something with the accounts of this data directory."""
    from mongars.cli.local import auth_of

    async def opened() -> Any:
        async with auth_of(state) as auth:
            return await does(auth)

    state.quiet_logs()
    return run(opened())


@app.command()
def add(
    context: typer.Context,
    name: Name,
    admin: Annotated[bool, typer.Option("--admin", help="May manage people and models.")] = False,
    password_stdin: FromStdin = False,
) -> None:
    """Add somebody; asks for their password (12 characters or more, not easily guessed)."""
    secret = output.password(f"Password for {name}", from_stdin=password_stdin)
    role = Role.admin if admin else Role.user
    state = state_of(context)
    with_auth(state, lambda auth: auth.add_person(name, secret, role=role.value))
    print(f"{name} can sign in now ({role}).")
    if not any(one.role == "admin" for one in with_auth(state, lambda auth: auth.people())):
        print(f"Nobody is an admin yet: mongars users role {name} admin", file=sys.stderr)


@app.command("list")
def list_(context: typer.Context, as_json: AsJson = False) -> None:
    """List everybody."""
    people = with_auth(state_of(context), lambda auth: auth.people())
    rows = [asdict(person) for person in people]
    if as_json:
        output.as_json({"items": rows})
        return
    columns = {"username": "name", "role": "role", "disabled": "disabled", "created_at": "since"}
    output.table(rows, columns)


@app.command()
def passwd(context: typer.Context, name: Name, password_stdin: FromStdin = False) -> None:
    """Set somebody's password; ends all their sessions."""
    secret = output.password(f"New password for {name}", from_stdin=password_stdin)
    with_auth(state_of(context), lambda auth: auth.set_password(name, secret))
    print(f"{name} has a new password.")


@app.command()
def disable(context: typer.Context, name: Name) -> None:
    """Keep somebody out, at once; what they wrote stays."""
    with_auth(state_of(context), lambda auth: auth.disable(name))
    print(f"{name} can no longer sign in.")


@app.command()
def enable(context: typer.Context, name: Name) -> None:
    """Let somebody in again."""
    with_auth(state_of(context), lambda auth: auth.enable(name))
    print(f"{name} can sign in again.")


@app.command("role")
def role_(
    context: typer.Context,
    name: Name,
    role: Annotated[Role, typer.Argument(help="user or admin")],
) -> None:
    """Make somebody an admin, or an ordinary user."""
    with_auth(state_of(context), lambda auth: auth.set_role(name, role.value))
    print(f"{name} is now {'an admin' if role is Role.admin else 'a user'}.")
