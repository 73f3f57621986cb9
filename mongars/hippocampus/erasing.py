"""Deleting: hidden at once, brought back for a moment, then gone with all that hangs on it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from mongars.database import Reading, Writing
from mongars.hippocampus import store
from mongars.hippocampus.tables import conversations, files, presets


async def hide(w: Writing, owner_id: str, conversation_id: str, at: datetime) -> None:
    """Hide a conversation from now on. Raises `Missing`."""
    hidden = await w.execute(
        sa.update(conversations)
        .where(
            conversations.c.id == conversation_id,
            conversations.c.owner_id == owner_id,
            conversations.c.deleted_at.is_(None),
        )
        .values(deleted_at=at)
    )
    if hidden.rowcount == 0:
        raise store.no_conversation()


async def show_again(
    w: Writing, owner_id: str, conversation_id: str, deleted_after: datetime
) -> None:
    """Bring back what was hidden after this moment. Raises `Missing` when it is too late."""
    shown = await w.execute(
        sa.update(conversations)
        .where(
            conversations.c.id == conversation_id,
            conversations.c.owner_id == owner_id,
            conversations.c.deleted_at > deleted_after,
        )
        .values(deleted_at=None)
    )
    if shown.rowcount == 0:
        raise store.no_conversation()


async def erase(
    w: Writing, owner_id: str, conversation_id: str, hidden_at: datetime | None = None
) -> bool:
    """Remove a conversation with its messages, feedback and turns (they hang on it by key).

    With `hidden_at`, only when it was hidden then and not brought back since. Whether it was there.
    """
    statement = sa.delete(conversations).where(
        conversations.c.id == conversation_id, conversations.c.owner_id == owner_id
    )
    if hidden_at is not None:
        statement = statement.where(conversations.c.deleted_at == hidden_at)
    return (await w.execute(statement)).rowcount > 0


def _is_overdue(hidden_before: datetime, idle_before: datetime) -> sa.ColumnElement[bool]:
    c = conversations.c
    return sa.or_(
        c.deleted_at < hidden_before, sa.and_(c.temporary.is_(True), c.updated_at < idle_before)
    )


async def overdue(
    r: Reading, *, hidden_before: datetime, idle_before: datetime
) -> Sequence[sa.Row[Any]]:
    """Conversations (`id`, `owner_id`) hidden before this moment, or temporary and idle for long."""
    return await r.all(
        sa.select(conversations.c.id, conversations.c.owner_id).where(
            _is_overdue(hidden_before, idle_before)
        )
    )


async def erase_overdue(
    w: Writing,
    owner_id: str,
    conversation_id: str,
    *,
    hidden_before: datetime,
    idle_before: datetime,
) -> None:
    """Remove one that is still overdue: somebody may have spoken in it since."""
    await w.execute(
        sa.delete(conversations).where(
            conversations.c.id == conversation_id,
            conversations.c.owner_id == owner_id,
            _is_overdue(hidden_before, idle_before),
        )
    )


async def forget_person(w: Writing, owner_id: str) -> None:
    """Remove everything of a person."""
    for table in (conversations, presets, files):  # the rest hangs on these
        await w.execute(sa.delete(table).where(table.c.owner_id == owner_id))
