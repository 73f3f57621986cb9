"""Beginning a turn: everything it stands on comes to disk in one transaction, or nothing does."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy.exc import IntegrityError

from mongars.cortex import store
from mongars.cortex.events import Queued, encode, join
from mongars.cortex.run import Run
from mongars.cortex.settings import LimitsSettings
from mongars.cortex.turn import Options, Turn, TurnKind
from mongars.database import Database, Writing
from mongars.errors import Busy, Conflict, Invalid
from mongars.hippocampus import Conversation, Message, MessageState, Role
from mongars.ids import new_id, now

KEY_LASTS: Final = timedelta(hours=24)


@dataclass(frozen=True)
class Key:
    """An idempotency key and the hash of the body that came with it."""

    key: str
    body_hash: str


@dataclass(frozen=True)
class Prepared:
    """What a turn stands on, inside its transaction."""

    talk: Conversation
    message_id: str
    answer: Message
    history: Sequence[Message] | None = None


Prepare = Callable[[Writing], Awaitable[Prepared]]


@dataclass(frozen=True)
class Wish:
    """A turn that somebody wants; `prepare` brings what it stands on to disk.

    `admitted`: its message was counted before.
    """

    owner_id: str
    kind: TurnKind
    prepare: Prepare
    options: Options
    client_id: str | None
    key: Key | None
    admitted: bool = False


class Beginning:
    """Lets turns begin, one after another for each person."""

    def __init__(
        self, database: Database, limits: LimitsSettings, holder: str, lease: timedelta
    ) -> None:
        self._database = database
        self._limits = limits
        self._holder = holder
        self._lease = lease

    async def begin(self, wish: Wish) -> tuple[Run, bytes] | Turn:
        """A run and its first group of events, on disk; or the turn that the key stands for.

        Raises `Busy`, `Conflict`, `Invalid`, and what `prepare` raises.
        """
        at = now()
        try:
            return await self._database.at_once(wish.owner_id, lambda w: self._add(w, wish, at))
        except IntegrityError as error:
            return await self._lost_race(wish, at, error)

    async def _add(self, w: Writing, wish: Wish, at: datetime) -> tuple[Run, bytes] | Turn:
        await store.one_at_a_time(w, wish.owner_id)
        if wish.key and (known := await self._known(w, wish.owner_id, wish.key, at)):
            return known
        if not wish.admitted:
            await store.admit(w, wish.owner_id, at, self._limits.messages_per_minute)
        active = await store.active(w, wish.owner_id)
        prepared = await wish.prepare(w)
        self._refuse_second(active, prepared.talk.id)
        run, group = _new_run(wish, prepared, at)
        await store.add_turn(w, run.turn, self._holder, at + self._lease, group, run.seq)
        if key := wish.key:
            expired = at - KEY_LASTS
            await store.keep_key(w, wish.owner_id, key.key, key.body_hash, run.turn.id, at, expired)
        return run, group

    async def _known(self, w: Writing, owner_id: str, key: Key, at: datetime) -> Turn | None:
        known = await store.known_key(w, owner_id, key.key, at - KEY_LASTS)
        if known is None:
            return None
        body_hash, turn_id = known
        if body_hash != key.body_hash:
            raise Invalid(
                "This Idempotency-Key came before with another body.", slug="idempotency-key-reused"
            )
        return await store.get(w, owner_id, turn_id)

    def _refuse_second(self, active: Sequence[Any], conversation_id: str) -> None:
        for row in active:
            if row.conversation_id == conversation_id:
                raise running(row.id)
        if len(active) >= self._limits.turns_per_person:
            raise Busy(
                f"{len(active)} of your answers are being made; wait for one of them.",
                slug="too-many-turns",
                retry_after_s=3,
            )

    async def _lost_race(self, wish: Wish, at: datetime, error: IntegrityError) -> Turn:
        """Two came at the same time through two processes: the other one was first."""
        async with self._database.writing(wish.owner_id) as w:
            if wish.key and (known := await self._known(w, wish.owner_id, wish.key, at)):
                return known
            active = await store.active(w, wish.owner_id)
        if active:
            raise running(active[-1].id) from error
        raise Conflict("This was said twice at the same time; try again.") from error


def new_message(
    conversation_id: str,
    parent_id: str | None,
    role: Role,
    text: str = "",
    *,
    state: MessageState = "done",
    details: Any = None,
) -> Message:
    """A message that is made now."""
    return Message(
        id=new_id(),
        conversation_id=conversation_id,
        parent_id=parent_id,
        role=role,
        text=text,
        at=now(),
        state=state,
        details=details,
    )


def _new_run(wish: Wish, prepared: Prepared, at: datetime) -> tuple[Run, bytes]:
    turn = Turn(
        id=new_id(),
        owner_id=wish.owner_id,
        conversation_id=prepared.talk.id,
        message_id=prepared.message_id,
        answer_id=prepared.answer.id,
        kind=wish.kind,
        state="queued",
        options=wish.options.facts(),
        client_id=wish.client_id,
        error=None,
        created_at=at,
    )
    run = Run(turn, wish.options, seq=1)
    if prepared.history is not None:
        run.conversation, run.history = prepared.talk, list(prepared.history)
    return run, join([encode(turn.id, 1, Queued(0))])


def running(turn_id: str) -> Conflict:
    """What is said to a second answer in the same conversation."""
    return Conflict(
        "An answer is being made in this conversation; wait for it, or stop it.",
        slug="turn-running",
        extra={"turn_id": turn_id},
    )
