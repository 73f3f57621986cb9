"""Bringing conversations in: each one whole or not at all, the same one once."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from mongars.database import Database, Reading, Writing
from mongars.errors import Conflict, Invalid
from mongars.hippocampus import store
from mongars.hippocampus.entry import ConversationEntry, MessageEntry, read_entry, read_preset
from mongars.hippocampus.erasing import erase
from mongars.hippocampus.message import Conversation, Message
from mongars.hippocampus.preset import Preset
from mongars.hippocampus.preset import add as add_preset
from mongars.hippocampus.tables import conversations, feedback, messages
from mongars.ids import new_id, now

TOLD_AT_MOST: Final = 100
"""How many of the skipped entries are listed one by one."""
TOGETHER: Final = 1000
"""About how many messages are brought in by one transaction."""
ID_LENGTH: Final = 36
"""The length of ids made here."""

Numbered = tuple[int, ConversationEntry]
"""An entry, and its place among those that were given."""


@dataclass
class Imported:
    """What came in, and what did not, and why."""

    conversations: int = 0
    messages: int = 0
    skipped: list[dict[str, Any]] = field(default_factory=list)
    skipped_count: int = 0

    def skip(self, index: int | None, why: str) -> None:
        """Note an entry that did not come in."""
        self.skipped_count += 1
        if len(self.skipped) < TOLD_AT_MOST:
            self.skipped.append({"index": index, "why": why})

    def told(self) -> dict[str, Any]:
        """As it is answered."""
        return {
            "imported": {"conversations": self.conversations, "messages": self.messages},
            "skipped": sorted(self.skipped, key=_place),
            "skipped_count": self.skipped_count,
        }


def _place(skipped: Mapping[str, Any]) -> int:
    index = skipped["index"]
    return -1 if index is None else int(index)


class Importer:
    """Brings entries in for one owner, some at a time."""

    def __init__(self, database: Database, owner_id: str) -> None:
        self.imported = Imported()
        self._database = database
        self._owner_id = owner_id
        self._waiting: list[tuple[int, ConversationEntry]] = []
        self._weight = 0
        self._index = 0

    async def add(self, given: Any) -> bool:
        """Take one entry in; whether something was written by this."""
        index, self._index = self._index, self._index + 1
        try:
            entry = read_entry(given)
        except Invalid as fault:
            self.imported.skip(index, fault.detail)
            return False
        self._waiting.append((index, entry))
        self._weight += 1 + len(entry.messages)
        if self._weight < TOGETHER:
            return False
        await self.flush()
        return True

    async def add_presets(self, given: Any) -> None:
        """Keep the presets whose names are not taken."""
        for one in given if isinstance(given, list) else ():
            try:
                entry = read_preset(one)
            except Invalid as fault:
                self.imported.skip(None, f"a preset: {fault.detail}")
                continue
            made = Preset(
                new_id(), entry.name, entry.model, entry.system_prompt, entry.temperature, now()
            )
            with contextlib.suppress(Conflict):
                async with self._database.writing(self._owner_id) as w:
                    await add_preset(w, self._owner_id, made)

    def broke_off(self, why: str) -> None:
        """Note that what follows cannot be read."""
        self.imported.skip(self._index, why)

    async def flush(self) -> None:
        """Write what was taken in."""
        if not self._waiting:
            return
        came = Imported()
        async with self._database.writing(self._owner_id) as w:
            await _bring_in(w, self._owner_id, self._waiting, came)
        self._waiting, self._weight = [], 0
        self.imported.conversations += came.conversations
        self.imported.messages += came.messages
        for one in came.skipped:
            self.imported.skip(one["index"], one["why"])
        self.imported.skipped_count += came.skipped_count - len(came.skipped)


async def _bring_in(w: Writing, owner_id: str, batch: Sequence[Numbered], came: Imported) -> None:
    """Write what is certainly new together, then look at the others one by one."""
    seen = await _perhaps_known(w, owner_id, [entry for _, entry in batch])
    fresh: list[Numbered] = []
    others: list[Numbered] = []
    for index, entry in batch:
        marks = _marks(entry)
        (others if marks & seen else fresh).append((index, entry))
        seen |= marks
    others += await _begin_all(w, owner_id, fresh, came)
    for index, entry in sorted(others, key=lambda one: one[0]):
        await _look_again(w, owner_id, index, entry, came)


async def _look_again(
    w: Writing, owner_id: str, index: int, entry: ConversationEntry, came: Imported
) -> None:
    """An entry that is here already, unless it only looks like one."""
    known = await _known(w, owner_id, entry)
    if known is None:
        if await _begin_all(w, owner_id, [(index, entry)], came):
            came.skip(index, "is here already")
        return
    added = await _grow(w, owner_id, known, entry)
    came.messages += added
    if added == 0:
        came.skip(index, "is here already")


def _marks(entry: ConversationEntry) -> set[str]:
    """What an entry is known by: its key, and the ids that an export from here carries."""
    first = entry.messages[0].external_id if entry.messages else None
    ids = (one for one in (entry.external_id, first) if one is not None)
    return {entry.key(), *(one for one in ids if len(one) == ID_LENGTH)}


async def _perhaps_known(
    r: Reading, owner_id: str, entries: Sequence[ConversationEntry]
) -> set[str]:
    """Those marks of the entries that something here bears."""
    c, m = conversations.c, messages.c
    marks = set().union(*(_marks(entry) for entry in entries))
    ids = [one for one in marks if len(one) == ID_LENGTH]
    keys = sa.select(c.import_key).where(c.owner_id == owner_id, c.import_key.in_(marks))
    found = [row[0] for row in await r.all(keys)]
    if ids:
        for column, owner in ((c.id, c.owner_id), (m.id, m.owner_id)):
            named = sa.select(column).where(owner == owner_id, column.in_(ids))
            found += [row[0] for row in await r.all(named)]
    return set(found)


async def _begin_all(
    w: Writing, owner_id: str, fresh: Sequence[Numbered], came: Imported
) -> list[Numbered]:
    """New conversations with their messages; those that another transaction began come back."""
    rows: dict[str, Numbered] = {}
    placed: list[Placed] = []
    begun: list[dict[str, Any]] = []
    for index, entry in fresh:
        row = _row(owner_id, entry)
        one = Placed(owner_id, row["id"])
        one.add(entry.messages)
        begun.append({**row, "active_leaf_id": one.leaf(entry)})
        placed.append(one)
        rows[row["id"]] = (index, entry)
    if not begun:
        return []
    insert = postgresql.insert if w.dialect == "postgresql" else sqlite.insert
    statement = insert(conversations).on_conflict_do_nothing().returning(conversations.c.id)
    made = {row.id for row in (await w.execute(statement, begun)).all()}
    await _write(w, [one for one in placed if one.conversation_id in made])
    for id_ in made:
        came.conversations += 1
        came.messages += len(rows[id_][1].messages)
    return [numbered for id_, numbered in rows.items() if id_ not in made]


async def _write(w: Writing, placed: Sequence["Placed"]) -> None:
    said = [row for one in placed for row in one.rows]
    opinions = [row for one in placed for row in one.opinions]
    if said:
        await store.insert_messages(w, said)
    if opinions:
        await w.execute(sa.insert(feedback), opinions)


async def _known(w: Writing, owner_id: str, entry: ConversationEntry) -> str | None:
    """The conversation that this entry already is: brought in before, or exported from here."""
    c, m = conversations.c, messages.c
    marks = _marks(entry)
    holding = sa.select(m.conversation_id).where(m.id.in_(marks), m.owner_id == owner_id)
    matches = [c.import_key == entry.key(), c.id.in_(marks), c.id.in_(holding)]
    rows = await w.all(
        sa.select(c.id, c.deleted_at).where(c.owner_id == owner_id, sa.or_(*matches))
    )
    for row in rows:
        if row.deleted_at is None:
            return str(row.id)
        await erase(w, owner_id, row.id)  # deleted a moment ago, and wanted again
    return None


def _row(owner_id: str, entry: ConversationEntry) -> dict[str, Any]:
    """The row of a new conversation."""
    last = max((one.at for one in entry.messages), default=now())
    begun = Conversation(
        id=new_id(),
        owner_id=owner_id,
        title=entry.title,
        model=entry.model,
        system_prompt=entry.system_prompt,
        temperature=entry.temperature,
        tags=tuple(entry.tags),
        pinned=entry.pinned,
        archived=entry.archived,
        temporary=entry.temporary,
        active_leaf_id=None,
        created_at=entry.created_at or min((one.at for one in entry.messages), default=last),
        updated_at=now() if entry.temporary else entry.updated_at or last,
    )
    return {
        **store.conversation_row(begun),
        "import_key": entry.key(),
        "external_id": entry.external_id,
    }


@dataclass
class Placed:
    """The messages of an entry, each with its place in a conversation."""

    owner_id: str
    conversation_id: str
    ids: dict[str, str] = field(default_factory=dict)
    """The message of each `external_id`."""
    last: str | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    opinions: list[dict[str, Any]] = field(default_factory=list)

    def add(self, entries: Sequence[MessageEntry]) -> None:
        """Place those that are not there. Each follows its parent, else the one before."""
        for one in entries:
            if one.external_id in self.ids:
                self.last = self.ids[one.external_id or ""]
                continue
            made = self._message(one)
            self.rows.append(store.message_row(self.owner_id, made))
            if one.feedback is not None:
                self.opinions.append(_opinion(self.owner_id, made, one.feedback.model_dump()))

    def _message(self, one: MessageEntry) -> Message:
        parent_id = self.last
        if one.says_parent:
            parent_id = None if one.parent is None else self.ids[one.parent]
        made = Message(
            id=new_id(),
            conversation_id=self.conversation_id,
            parent_id=parent_id,
            role=one.role,
            text=one.text,
            at=one.at,
            state="interrupted" if one.state == "writing" else one.state,
            model=one.model,
            speaker=one.speaker,
            external_id=one.external_id,
            details=one.details,
        )
        if one.external_id is not None:
            self.ids[one.external_id] = made.id
        self.last = made.id
        return made

    def leaf(self, entry: ConversationEntry) -> str | None:
        """The end of the branch that the entry shows, else its last message."""
        return self.last if entry.active_leaf is None else self.ids[entry.active_leaf]


def _opinion(owner_id: str, made: Message, values: Mapping[str, Any]) -> dict[str, Any]:
    return {"message_id": made.id, "owner_id": owner_id, "at": made.at, **values}


async def _grow(w: Writing, owner_id: str, conversation_id: str, entry: ConversationEntry) -> int:
    """Add what a conversation that is here already has come to since; how many messages.

    Only messages with an `external_id` can be told from those that are here.
    """
    named = [one for one in entry.messages if one.external_id is not None]
    if not named:
        return 0
    placed = Placed(owner_id, conversation_id, await _ids_of(w, owner_id, conversation_id))
    placed.add(named)
    leaf = placed.leaf(entry)
    if placed.rows and leaf is not None:
        await _write(w, [placed])
        await store.set_active_leaf(w, owner_id, conversation_id, leaf)
    return len(placed.rows)


async def _ids_of(r: Reading, owner_id: str, conversation_id: str) -> dict[str, str]:
    m = messages.c
    rows = await r.all(
        sa.select(m.id, m.external_id).where(
            m.conversation_id == conversation_id, m.owner_id == owner_id
        )
    )
    known = {row.id: row.id for row in rows}
    return known | {row.external_id: row.id for row in rows if row.external_id is not None}
