"""What is asked of the tables of turns. Statements are built once; who opened the transaction owns it."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from mongars.cortex.tables import admissions, idempotency_keys, turn_events, turns
from mongars.cortex.turn import Turn
from mongars.database import SYSTEM, Owner, Reading, UtcTime, Writing
from mongars.errors import Busy, Missing
from mongars.ids import new_id

WINDOW: Final = timedelta(minutes=1)

_SHOWN = (
    turns.c.id,
    turns.c.owner_id,
    turns.c.conversation_id,
    turns.c.message_id,
    turns.c.answer_id,
    turns.c.kind,
    turns.c.state,
    turns.c.options,
    turns.c.client_id,
    turns.c.error,
    turns.c.created_at,
    turns.c.started_at,
    turns.c.ended_at,
    turns.c.model,
    turns.c.attempts,
    turns.c.stop_asked,
    turns.c.last_seq,
    turns.c.compacted,
)
_IS_ACTIVE = sa.text("state IN ('queued', 'running')")
_ACTIVE = sa.select(turns.c.id, turns.c.conversation_id).where(
    turns.c.owner_id == sa.bindparam("of_owner"), _IS_ACTIVE
)
_INSERT_TURN = sa.insert(turns)
_INSERT_EVENTS = sa.insert(turn_events)
_INSERT_KEY = sa.insert(idempotency_keys)
_ADMIT = sa.insert(admissions).from_select(
    ["owner_id", "at", "id"],
    sa.select(
        sa.bindparam("of_owner", type_=sa.String),
        sa.bindparam("moment", type_=UtcTime),
        sa.bindparam("admission", type_=sa.String),
    ).where(
        sa.select(sa.func.count())
        .select_from(admissions)
        .where(
            admissions.c.owner_id == sa.bindparam("of_owner", type_=sa.String),
            admissions.c.at > sa.bindparam("since", type_=UtcTime),
        )
        .scalar_subquery()
        < sa.bindparam("most", type_=sa.Integer)
    ),
)
_OLDEST = sa.select(sa.func.min(admissions.c.at)).where(
    admissions.c.owner_id == sa.bindparam("of_owner"),
    admissions.c.at > sa.bindparam("since", type_=UtcTime),
)
_GROUPS = (
    sa.select(turn_events.c.events)
    .where(
        turn_events.c.turn_id == sa.bindparam("of_turn"),
        turn_events.c.last_seq > sa.bindparam("seen"),
    )
    .order_by(turn_events.c.first_seq)
)


def to_turn(row: sa.Row[Any]) -> Turn:
    """A row of the shown columns as everybody else sees it."""
    return Turn(**row._mapping)


async def one_at_a_time(w: Writing, owner_id: str) -> None:
    """Until this transaction ends, no other one begins a turn of this person (SQLite has one writer
    anyway): else two could both be the last that a limit lets in."""
    if w.dialect == "postgresql":
        await w.execute(
            sa.text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 7271))"), {"key": owner_id}
        )


async def admit(w: Writing, owner_id: str, at: datetime, most: int) -> None:
    """Count one message of this person. Raises `Busy` when `most` came in the last minute."""
    since = at - WINDOW
    values = {"of_owner": owner_id, "moment": at, "admission": new_id(), "since": since}
    if (await w.execute(_ADMIT, {**values, "most": most})).rowcount:
        return
    oldest = (await w.execute(_OLDEST, {"of_owner": owner_id, "since": since})).scalar()
    wait_s = 60.0 if oldest is None else (_aware(oldest) + WINDOW - at).total_seconds()
    raise Busy(
        f"More than {most} messages in a minute; the next one is taken in {max(1, round(wait_s))} s.",
        slug="too-many-messages",
        retry_after_s=max(1.0, wait_s),
    )


def _aware(at: datetime | str) -> datetime:
    """A moment out of an aggregate, which SQLite gives as it is stored."""
    value = datetime.fromisoformat(at) if isinstance(at, str) else at
    result = UtcTime().process_result_value(value, None)  # type: ignore[arg-type]
    assert result is not None
    return result


async def active(r: Reading, owner_id: str) -> Sequence[sa.Row[Any]]:
    """Ids and conversations of the turns of a person that are not over."""
    return (await r.execute(_ACTIVE, {"of_owner": owner_id})).all()


async def add_turn(
    w: Writing, turn: Turn, holder: str, until: datetime, group: bytes, last_seq: int
) -> None:
    """Add a turn that `holder` will perform, and its first events."""
    await w.execute(
        _INSERT_TURN,
        {
            **vars(turn),
            "options": dict(turn.options),
            "leased_by": holder,
            "leased_until": until,
            "last_seq": last_seq,
        },
    )
    await w.execute(
        _INSERT_EVENTS,
        {
            "turn_id": turn.id,
            "first_seq": 1,
            "last_seq": last_seq,
            "owner_id": turn.owner_id,
            "events": group.decode(),
        },
    )


async def get(r: Reading, owner: Owner, turn_id: str) -> Turn:
    """One turn of this owner (of anybody for `SYSTEM`). Raises `Missing`."""
    statement = sa.select(*_SHOWN).where(turns.c.id == turn_id)
    if owner is not SYSTEM:
        statement = statement.where(turns.c.owner_id == owner)
    row = await r.one(statement)
    if row is None:
        raise Missing("There is no such turn.")
    return to_turn(row)


async def groups(r: Reading, turn_id: str, after: int) -> list[bytes]:
    """The stored groups of events that reach beyond `after`, in order."""
    found = await r.execute(_GROUPS, {"of_turn": turn_id, "seen": after})
    return [row.events.encode() for row in found.all()]


async def known_key(
    r: Reading, owner_id: str, key: str, not_before: datetime
) -> tuple[str, str] | None:
    """The body's hash and the turn that this key stands for."""
    row = await r.one(
        sa.select(idempotency_keys.c.body_hash, idempotency_keys.c.turn_id).where(
            idempotency_keys.c.owner_id == owner_id,
            idempotency_keys.c.key == key,
            idempotency_keys.c.at > not_before,
        )
    )
    return None if row is None else (row.body_hash, row.turn_id)


async def keep_key(
    w: Writing,
    owner_id: str,
    key: str,
    body_hash: str,
    turn_id: str,
    at: datetime,
    expired: datetime,
) -> None:
    """Let this key stand for this turn; one that has had its time gives way."""
    await w.execute(
        sa.delete(idempotency_keys).where(
            idempotency_keys.c.owner_id == owner_id,
            idempotency_keys.c.key == key,
            idempotency_keys.c.at <= expired,
        )
    )
    values = {"owner_id": owner_id, "key": key, "body_hash": body_hash, "turn_id": turn_id}
    await w.execute(_INSERT_KEY, {**values, "at": at})


async def ask_to_stop(w: Writing, owner_id: str, turn_id: str) -> bool:
    """Note that a turn shall stop; whether it was still active."""
    asked = await w.execute(
        sa.update(turns)
        .where(turns.c.id == turn_id, turns.c.owner_id == owner_id, _IS_ACTIVE)
        .values(stop_asked=True)
    )
    return bool(asked.rowcount == 1)


async def last_details(
    r: Reading, owner_id: str, conversation_id: str, but: str
) -> list[Mapping[str, Any]]:
    """What the newest turns of a conversation but one noted about their prompts, newest first."""
    rows = await r.all(
        sa.select(turns.c.details)
        .where(
            turns.c.conversation_id == conversation_id,
            turns.c.owner_id == owner_id,
            turns.c.id != but,
        )
        .order_by(turns.c.id.desc())
        .limit(4)
    )
    return [row.details for row in rows if row.details]


async def end(w: Writing, turn_id: str, holder: str, **values: Any) -> bool:
    """Write how a turn ended; false when `holder` no longer holds it."""
    ended = await w.execute(
        sa.update(turns)
        .where(turns.c.id == turn_id, turns.c.leased_by == holder, _IS_ACTIVE)
        .values(leased_by=None, leased_until=None, **values)
    )
    return bool(ended.rowcount == 1)


async def add_events(w: Writing, turn: Turn, first_seq: int, last_seq: int, group: bytes) -> None:
    """Add a group of events."""
    await w.execute(
        _INSERT_EVENTS,
        {
            "turn_id": turn.id,
            "first_seq": first_seq,
            "last_seq": last_seq,
            "owner_id": turn.owner_id,
            "events": group.decode(),
        },
    )


async def renew(
    w: Writing, holder: str, turn_ids: Sequence[str], until: datetime
) -> dict[str, bool]:
    """Keep these turns of this holder; which are still its own, and whether each shall stop."""
    kept = await w.execute(
        sa.update(turns)
        .where(turns.c.id.in_(turn_ids), turns.c.leased_by == holder, _IS_ACTIVE)
        .values(leased_until=until)
        .returning(turns.c.id, turns.c.stop_asked)
    )
    return {row.id: row.stop_asked for row in kept.all()}


async def held(r: Reading) -> Sequence[sa.Row[Any]]:
    """Who holds each turn that is not over, and until when."""
    return await r.all(
        sa.select(turns.c.id, turns.c.leased_by, turns.c.leased_until).where(_IS_ACTIVE)
    )


async def any_active(r: Reading) -> bool:
    """Whether any turn is not over."""
    return await r.one(sa.select(turns.c.id).where(_IS_ACTIVE).limit(1)) is not None


async def claim(
    w: Writing,
    turn_id: str,
    was_held_by: str | None,
    was_held_until: datetime | None,
    holder: str,
    until: datetime,
) -> Turn | None:
    """Take a turn over from a holder that is gone; `None` when another one was quicker."""
    row = (
        await w.execute(
            sa.update(turns)
            .where(
                turns.c.id == turn_id,
                turns.c.leased_by.is_not_distinct_from(was_held_by),
                turns.c.leased_until.is_not_distinct_from(was_held_until),
                _IS_ACTIVE,
            )
            .values(leased_by=holder, leased_until=until, attempts=turns.c.attempts + 1)
            .returning(*_SHOWN)
        )
    ).first()
    return None if row is None else to_turn(row)


async def holds(w: Writing, turn_id: str, holder: str) -> bool:
    """Whether this holder still has this turn; nobody takes it before this transaction ends."""
    statement = sa.select(turns.c.id).where(
        turns.c.id == turn_id, turns.c.leased_by == holder, _IS_ACTIVE
    )
    return await w.one(statement.with_for_update()) is not None


async def release(w: Writing, turn_id: str, holder: str) -> None:
    """Let a turn go, so that another process or the next start takes it over at once.

    A planned stop is not a failed try: `attempts` stays what it was before.
    """
    await w.execute(
        sa.update(turns)
        .where(turns.c.id == turn_id, turns.c.leased_by == holder, _IS_ACTIVE)
        .values(leased_by=None, leased_until=None, attempts=turns.c.attempts - 1)
    )


async def ended_before(r: Reading, before: datetime, most: int) -> list[Turn]:
    """Turns whose single events have had their time."""
    statement = (
        sa.select(*_SHOWN)
        .where(turns.c.ended_at < before, turns.c.compacted.is_(False))
        .limit(most)
    )
    return [to_turn(row) for row in await r.all(statement)]


async def compact(w: Writing, turn: Turn, group: bytes, last_seq: int) -> None:
    """Keep only this group of a turn's events."""
    await w.execute(sa.delete(turn_events).where(turn_events.c.turn_id == turn.id))
    await add_events(w, turn, 1, last_seq, group)
    await w.execute(sa.update(turns).where(turns.c.id == turn.id).values(compacted=True))


async def sweep(w: Writing, keys_before: datetime, admissions_before: datetime) -> None:
    """Drop keys and counts that have had their time."""
    await w.execute(sa.delete(idempotency_keys).where(idempotency_keys.c.at < keys_before))
    await w.execute(sa.delete(admissions).where(admissions.c.at < admissions_before))


async def forget_person(w: Writing, owner_id: str) -> None:
    """Drop everything about a person's turns."""
    for table in (idempotency_keys, turn_events, turns, admissions):
        await w.execute(sa.delete(table).where(table.c.owner_id == owner_id))
