"""Lists: of conversations, of what was said in one, of what was said at all, and what is found."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from mongars.database import Reading, UtcTime
from mongars.errors import Missing
from mongars.hippocampus import store
from mongars.hippocampus.folding import fold, snippet
from mongars.hippocampus.message import Conversation, Message
from mongars.hippocampus.paging import Part, Place
from mongars.hippocampus.tables import conversations, messages


@dataclass(frozen=True)
class Filter:
    """Which conversations are listed; `None` means both kinds."""

    archived: bool | None = False
    temporary: bool | None = False
    pinned: bool | None = None
    tag: str | None = None


@dataclass(frozen=True)
class Hit:
    """A conversation in which the words stand: in `message_id`, or in its title when that is `None`."""

    conversation: Conversation
    message_id: str | None
    snippet: str
    at: datetime


async def listed(
    r: Reading, owner_id: str, wanted: Filter, cursor: str | None, limit: int
) -> Part[Conversation]:
    """Conversations, pinned ones first, then by the last word in them, newest first."""
    c = conversations.c
    statement = sa.select(*store.SHOWN_CONVERSATION).where(
        c.owner_id == owner_id, c.deleted_at.is_(None), *_matching(r, wanted)
    )
    if place := Place.of(cursor):
        statement = statement.where(
            sa.tuple_(c.pinned, c.updated_at, c.id)
            < sa.tuple_(
                sa.literal(place.pinned, sa.Boolean),
                sa.literal(place.updated_at, UtcTime),
                sa.literal(place.id, sa.String),
            )
        )
    ordered = statement.order_by(c.pinned.desc(), c.updated_at.desc(), c.id.desc())
    rows = await r.all(ordered.limit(limit + 1))
    found = [store.to_conversation(row) for row in rows]
    return _part(found, limit)


def _matching(r: Reading, wanted: Filter) -> Sequence[sa.ColumnElement[bool]]:
    c = conversations.c
    chosen: list[sa.ColumnElement[bool]] = [
        column == value
        for column, value in (
            (c.archived, wanted.archived),
            (c.temporary, wanted.temporary),
            (c.pinned, wanted.pinned),
        )
        if value is not None
    ]
    if wanted.tag is not None:
        chosen.append(_tagged(r, wanted.tag))
    return chosen


def _tagged(r: Reading, tag: str) -> sa.ColumnElement[bool]:
    listed_tags = sa.cast(conversations.c.tags, sa.Text)
    if r.dialect == "postgresql":
        from sqlalchemy.dialects.postgresql import JSONB

        return sa.cast(listed_tags, JSONB).op("?", is_comparison=True)(tag)
    each = sa.func.json_each(listed_tags).table_valued("value")
    return sa.select(each.c.value).where(each.c.value == tag).exists()


def _part(found: list[Conversation], limit: int) -> Part[Conversation]:
    if len(found) <= limit:
        return Part(found, None)
    last = found[limit - 1]
    return Part(found[:limit], Place(last.pinned, last.updated_at, last.id).cursor())


async def on_branch(
    r: Reading, owner_id: str, talk: Conversation, cursor: str | None, limit: int
) -> Part[Message]:
    """The branch in view from its root on; `cursor` is the message behind which it goes on."""
    if talk.active_leaf_id is None:
        return Part([], None)
    upwards = store.upwards(talk.id, owner_id, talk.active_leaf_id)
    statement = sa.select(*store.SHOWN_MESSAGE).join(upwards, upwards.c.id == messages.c.id)
    if cursor is not None:
        reached = sa.select(upwards.c.depth).where(upwards.c.id == cursor).scalar_subquery()
        statement = statement.where(upwards.c.depth < reached)
    rows = await r.all(statement.order_by(upwards.c.depth.desc()).limit(limit + 1))
    if cursor is not None and not rows:
        await _inside(r, owner_id, talk.id, cursor)
    found = [store.to_message(row) for row in rows]
    return Part(found[:limit], found[limit - 1].id if len(found) > limit else None)


async def leading_to(
    r: Reading, owner_id: str, talk: Conversation, before: str, limit: int
) -> Part[Message]:
    """The last messages on the way to the message `before`; `next` is the `before` to go on with."""
    named = await _inside(r, owner_id, talk.id, before)
    if named.parent_id is None:
        return Part([], None)
    found = await store.branch(r, owner_id, talk.id, named.parent_id, limit + 1)
    return Part(found[-limit:], found[1].id if len(found) > limit else None)


async def tree(
    r: Reading,
    owner_id: str,
    talk: Conversation,
    *,
    cursor: str | None = None,
    before: str | None = None,
    limit: int,
) -> Part[Message]:
    """All messages of a conversation, parents first; `before` goes backwards from a message."""
    m = messages.c
    statement = sa.select(*store.SHOWN_MESSAGE).where(
        m.conversation_id == talk.id, m.owner_id == owner_id
    )
    if before is not None:
        await _inside(r, owner_id, talk.id, before)
        rows = await r.all(statement.where(m.id < before).order_by(m.id.desc()).limit(limit + 1))
        found = [store.to_message(row) for row in reversed(rows)]
        return Part(found[-limit:], found[1].id if len(found) > limit else None)
    if cursor is not None:
        await _inside(r, owner_id, talk.id, cursor)
        statement = statement.where(m.id > cursor)
    rows = await r.all(statement.order_by(m.id).limit(limit + 1))
    found = [store.to_message(row) for row in rows]
    return Part(found[:limit], found[limit - 1].id if len(found) > limit else None)


async def _inside(r: Reading, owner_id: str, conversation_id: str, message_id: str) -> Message:
    named = await store.message(r, owner_id, message_id)
    if named.conversation_id != conversation_id:
        raise Missing("There is no such message in this conversation.")
    return named


async def history(
    r: Reading, owner_id: str, conversation_id: str | None, before: str | None, limit: int
) -> Part[Message]:
    """Messages of one conversation or of all, newest first; `next` is the next `before`.

    Raises `Missing` for a conversation or a message that is not there.
    """
    m = messages.c
    living = store.of_living()
    statement = sa.select(*store.SHOWN_MESSAGE).where(m.owner_id == owner_id, living)
    if conversation_id is not None:
        await store.conversation(r, owner_id, conversation_id)
        statement = statement.where(m.conversation_id == conversation_id)
    if before is not None:
        reached = await store.message(r, owner_id, before)
        statement = statement.where(
            sa.tuple_(m.at, m.id)
            < sa.tuple_(sa.literal(reached.at, UtcTime), sa.literal(reached.id, sa.String))
        )
    rows = await r.all(statement.order_by(m.at.desc(), m.id.desc()).limit(limit + 1))
    found = [store.to_message(row) for row in rows]
    return Part(found[:limit], found[limit - 1].id if len(found) > limit else None)


async def search(
    r: Reading, owner_id: str, query: str, cursor: str | None, limit: int
) -> Part[Hit]:
    """Conversations whose title or texts hold `query`, whatever the case and accents, newest first.

    Temporary ones are left out. The part of a text that is shown is around the newest place.
    """
    folded = fold(query.strip())
    if not folded:
        return Part([], None)
    rows = await r.all(_holding(r, owner_id, folded, Place.of(cursor)).limit(limit + 1))
    shown = rows[:limit]
    texts = await _texts(r, owner_id, [row.hit for row in shown if row.hit is not None])
    hits = [_hit(row, texts, folded) for row in shown]
    if len(rows) <= limit:
        return Part(hits, None)
    last = hits[-1].conversation
    return Part(hits, Place(False, last.updated_at, last.id).cursor())


def _holding(r: Reading, owner_id: str, folded: str, place: Place | None) -> sa.Select[Any]:
    """One reading of all texts: no index helps to find a part of a word."""
    holds = sa.func.strpos if r.dialect == "postgresql" else sa.func.instr
    c, m = conversations.c, messages.c
    newest = (
        sa.select(m.conversation_id, sa.func.max(m.id).label("hit"))
        .where(m.owner_id == owner_id, holds(m.folded, folded) > 0)
        .group_by(m.conversation_id)
        .subquery()
    )
    found = (
        sa.select(*store.SHOWN_CONVERSATION, newest.c.hit)
        .outerjoin(newest, newest.c.conversation_id == c.id)
        .where(
            c.owner_id == owner_id,
            c.deleted_at.is_(None),
            c.temporary.is_(False),
            sa.or_(newest.c.hit.is_not(None), holds(c.title_folded, folded) > 0),
        )
    )
    if place is not None:
        found = found.where(
            sa.tuple_(c.updated_at, c.id)
            < sa.tuple_(sa.literal(place.updated_at, UtcTime), sa.literal(place.id, sa.String))
        )
    return found.order_by(c.updated_at.desc(), c.id.desc())


async def _texts(r: Reading, owner_id: str, ids: Sequence[str]) -> dict[str, Message]:
    if not ids:
        return {}
    rows = await r.all(
        sa.select(*store.SHOWN_MESSAGE).where(
            messages.c.id.in_(ids), messages.c.owner_id == owner_id
        )
    )
    return {row.id: store.to_message(row) for row in rows}


def _hit(row: sa.Row[Any], texts: dict[str, Message], folded: str) -> Hit:
    values = dict(row._mapping)
    message_id = values.pop("hit")
    found = Conversation(**{**values, "tags": tuple(values["tags"])})
    if message_id is None:
        return Hit(found, None, snippet(found.title or "", folded), found.updated_at)
    said = texts[message_id]
    return Hit(found, message_id, snippet(said.text, folded), said.at)
