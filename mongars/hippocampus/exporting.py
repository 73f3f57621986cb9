"""Giving conversations out, in the mongars format (see `entry.py`) and as Markdown."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson
import sqlalchemy as sa

from mongars.database import Database, Reading
from mongars.errors import Missing
from mongars.hippocampus import store
from mongars.hippocampus.message import Conversation, Message
from mongars.hippocampus.preset import listed as listed_presets
from mongars.hippocampus.tables import conversations, feedback, messages
from mongars.ids import now, rfc3339

FORMAT: Final = "mongars"
VERSION: Final = 1


def _exactly(at: datetime) -> str:
    """A time without loss (microseconds)."""
    return at.isoformat().replace("+00:00", "Z")


async def entry(r: Reading, owner_id: str, conversation_id: str) -> dict[str, Any]:
    """A conversation with its whole tree. Raises `Missing`."""
    talk = await store.conversation(r, owner_id, conversation_id)
    m, opinion = messages.c, feedback.c
    rows = await r.all(
        sa.select(
            *store.SHOWN_MESSAGE, opinion.value.label("thought"), opinion.text.label("because")
        )
        .outerjoin(feedback, opinion.message_id == m.id)
        .where(m.conversation_id == conversation_id, m.owner_id == owner_id)
        .order_by(m.id)
    )
    names = {row.id: row.external_id or row.id for row in rows}
    external_id = await r.scalar(
        sa.select(conversations.c.external_id).where(conversations.c.id == conversation_id)
    )
    return _without_nothing(
        {
            "title": talk.title,
            "external_id": external_id or talk.id,
            "created_at": _exactly(talk.created_at),
            "updated_at": _exactly(talk.updated_at),
            "model": talk.model,
            "system_prompt": talk.system_prompt,
            "temperature": talk.temperature,
            "tags": list(talk.tags),
            "pinned": talk.pinned,
            "archived": talk.archived,
            "temporary": talk.temporary,
            "active_leaf": names.get(talk.active_leaf_id or ""),
            "messages": [_message(row, names) for row in rows],
        }
    )


def _message(row: sa.Row[Any], names: Mapping[str, str]) -> dict[str, Any]:
    told = _without_nothing(
        {
            "role": row.role,
            "speaker": row.speaker,
            "text": row.text,
            "at": _exactly(row.at),
            "external_id": names[row.id],
            "state": row.state,
            "model": row.model,
            "details": row.details,
        }
    )
    told["parent"] = None if row.parent_id is None else names[row.parent_id]
    if row.thought is not None:
        told["feedback"] = _without_nothing({"value": row.thought, "text": row.because})
    return told


def _without_nothing(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def document(entries: Sequence[Mapping[str, Any]]) -> bytes:
    """Conversations as a file that can be brought in again."""
    told = {"format": FORMAT, "version": VERSION, "exported_at": rfc3339(now())}
    return orjson.dumps({**told, "conversations": entries})


def markdown(talk: Conversation, said: Sequence[Message]) -> str:
    """A branch for reading. What was said stands there as it was said."""
    parts = [f"# {' '.join((talk.title or 'Conversation').split())}"]
    for one in said:
        who = " ".join((one.speaker or one.model or one.role).split())
        parts.append(f"**{who}** · {rfc3339(one.at)}\n\n{one.text}")
    return "\n\n".join(parts) + "\n"


@dataclass
class Export:
    """Everything of a person, conversation by conversation."""

    database: Database
    owner_id: str
    conversations: int = 0
    messages: int = 0

    async def total(self) -> int:
        """How many conversations there are."""
        async with self.database.reading(self.owner_id) as r:
            found = await r.scalar(
                sa.select(sa.func.count()).select_from(conversations).where(*self._mine())
            )
        return int(found)

    def _mine(self) -> Sequence[sa.ColumnElement[bool]]:
        return (conversations.c.owner_id == self.owner_id, conversations.c.deleted_at.is_(None))

    async def pieces(self) -> AsyncGenerator[bytes]:
        """The file, piece by piece: presets, then each conversation."""
        async with self.database.reading(self.owner_id) as r:
            presets = [
                {**vars(one), "created_at": _exactly(one.created_at)}
                for one in await listed_presets(r, self.owner_id)
            ]
        head = {"format": FORMAT, "version": VERSION, "exported_at": rfc3339(now())}
        opening = orjson.dumps({**head, "presets": presets})[:-1]
        yield opening + b',"conversations":['
        async for told in self._entries():
            yield (b",\n" if self.conversations else b"\n") + orjson.dumps(told)
            self.conversations += 1
            self.messages += len(told["messages"])
        yield b"\n]}\n"

    async def _entries(self) -> AsyncGenerator[dict[str, Any]]:
        last = ""
        while True:
            async with self.database.reading(self.owner_id) as r:
                following = await r.scalar(
                    sa.select(sa.func.min(conversations.c.id)).where(
                        *self._mine(), conversations.c.id > last
                    )
                )
                if following is None:
                    return
                last = following
                try:
                    told = await entry(r, self.owner_id, following)
                except Missing:  # deleted at this moment
                    continue
            yield told
