"""Queries over people."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from mongars.auth import names
from mongars.auth.caller import Role
from mongars.auth.person import PersonRecord
from mongars.auth.tables import (
    api_keys,
    challenges,
    identities,
    invitations,
    one_time_codes,
    passkeys,
    recovery_codes,
    refresh_tokens,
    sessions,
    tickets,
    users,
)
from mongars.database import Reading, Writing
from mongars.errors import Conflict, Missing
from mongars.ids import new_id

REMEMBERED = timedelta(days=30)
"""How long a used refresh token is known, so that its second use ends the session."""


def record(row: Any) -> PersonRecord:
    """A row of `users` as others may see it."""
    return PersonRecord(row.id, row.username, row.role, row.disabled, row.created_at)


async def add_person(
    w: Writing, username: str, password_hash: str | None, role: Role, at: datetime
) -> PersonRecord:
    """A new account. Raises `Conflict` when the name is taken; the transaction is lost then."""
    made = PersonRecord(new_id(), username, role, disabled=False, created_at=at)
    try:
        await w.execute(
            sa.insert(users).values(
                **asdict(made), folded=names.fold(username), password_hash=password_hash, epoch=0
            )
        )
    except IntegrityError as error:
        raise Conflict("This name is taken.", slug="name-taken") from error
    return made


async def by_name(r: Reading, username: str) -> sa.Row[Any] | None:
    """The row of the person called this, whatever the case."""
    return await r.one(sa.select(users).where(users.c.folded == names.fold(username)))


async def by_id(r: Reading, person_id: str) -> sa.Row[Any]:
    """A person's row. Raises `Missing`."""
    row = await r.one(sa.select(users).where(users.c.id == person_id))
    if row is None:
        raise Missing("There is no such person.")
    return row


async def people(r: Reading) -> Sequence[sa.Row[Any]]:
    """Everybody, by name."""
    return await r.all(sa.select(users).order_by(users.c.folded))


async def has_admin(r: Reading) -> bool:
    """Whether an admin is there: until then the set-up code makes one."""
    return await r.one(sa.select(users.c.id).where(users.c.role == "admin").limit(1)) is not None


async def change(w: Writing, person_id: str, **values: Any) -> None:
    """Write some columns of a person."""
    await w.execute(sa.update(users).where(users.c.id == person_id).values(**values))


async def keep_an_admin(w: Writing, person_id: str, *, going: bool = False) -> None:
    """Raises `Conflict` if this person is the last admin who can come in, and others remain.

    `going`: the person is being deleted; the only person of all may go.
    """
    rows = await w.all(
        sa.select(users.c.id)
        .where(users.c.role == "admin", users.c.disabled.is_(False))
        .order_by(users.c.id)
        .with_for_update()
    )
    if [row.id for row in rows] != [person_id]:
        return
    if going and await w.scalar(sa.select(sa.func.count()).select_from(users)) == 1:
        return
    raise Conflict("This is the last admin; make somebody else an admin first.", slug="last-admin")


async def end_session(w: Writing, session_id: str, *, owner_id: str | None = None) -> bool:
    """End a session and all that was given out for it; whether there was one."""
    mine = [] if owner_id is None else [sessions.c.owner_id == owner_id]
    found = await w.one(
        sa.delete(sessions).where(sessions.c.id == session_id, *mine).returning(sessions.c.id)
    )
    if found is not None:
        await w.execute(sa.delete(tickets).where(tickets.c.session_id == session_id))
    return found is not None


async def end_sessions(w: Writing, person_id: str, *, but: str | None = None) -> None:
    """End all of a person's sessions, `but` this one."""
    kept = [] if but is None else [sessions.c.id != but]
    await w.execute(sa.delete(sessions).where(sessions.c.owner_id == person_id, *kept))
    ours = [] if but is None else [tickets.c.session_id.is_distinct_from(but)]
    await w.execute(sa.delete(tickets).where(tickets.c.owner_id == person_id, *ours))


async def forget(w: Writing, person_id: str) -> None:
    """Remove a person and all that this organ keeps of them."""
    for table in (
        tickets,
        refresh_tokens,
        sessions,
        api_keys,
        recovery_codes,
        one_time_codes,
        passkeys,
        identities,
        challenges,
    ):
        await w.execute(sa.delete(table).where(table.c.owner_id == person_id))
    await w.execute(
        sa.delete(invitations).where(
            (invitations.c.used_by == person_id)
            | ((invitations.c.created_by == person_id) & invitations.c.used_at.is_(None))
        )
    )
    await w.execute(sa.delete(users).where(users.c.id == person_id))


async def sweep(w: Writing, at: datetime) -> None:
    """Remove what has ended by itself."""
    for table in (tickets, sessions, challenges):
        await w.execute(sa.delete(table).where(table.c.expires_at < at))
    await w.execute(sa.delete(refresh_tokens).where(refresh_tokens.c.used_at < at - REMEMBERED))
