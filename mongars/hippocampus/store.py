"""What is asked of the tables of conversations and messages.

These functions never commit: whoever opened the transaction owns it. Each one filters by owner;
PostgreSQL's row level security does so again. Statements of the hot path are built once.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from mongars.database import Reading, UtcTime, Writing
from mongars.errors import Conflict, Invalid, Missing
from mongars.hippocampus.folding import fold
from mongars.hippocampus.message import Conversation, Message, MessageState
from mongars.hippocampus.tables import conversations, messages
from mongars.ids import new_id, now

TitledBy = Literal["model", "person"]

SHOWN_CONVERSATION: Final = (
    conversations.c.id,
    conversations.c.owner_id,
    conversations.c.title,
    conversations.c.model,
    conversations.c.system_prompt,
    conversations.c.temperature,
    conversations.c.tags,
    conversations.c.pinned,
    conversations.c.archived,
    conversations.c.temporary,
    conversations.c.active_leaf_id,
    conversations.c.created_at,
    conversations.c.updated_at,
)
SHOWN_MESSAGE: Final = (
    messages.c.id,
    messages.c.conversation_id,
    messages.c.parent_id,
    messages.c.role,
    messages.c.text,
    messages.c.at,
    messages.c.state,
    messages.c.model,
    messages.c.speaker,
    messages.c.external_id,
    messages.c.details,
)
EVERYTHING: Final = 2**31 - 1
"""More messages than a branch can have."""

_OWN = sa.and_(
    conversations.c.id == sa.bindparam("of_conversation"),
    conversations.c.owner_id == sa.bindparam("of_owner"),
    conversations.c.deleted_at.is_(None),
)
_CONVERSATION = sa.select(*SHOWN_CONVERSATION).where(_OWN)
_MOVE_ON = (
    sa.update(conversations)
    .where(_OWN)
    .values(
        active_leaf_id=sa.bindparam("leaf", type_=sa.String),
        updated_at=sa.bindparam("moved_at", type_=UtcTime),
    )
)
_INSERT_CONVERSATION = sa.insert(conversations)
_INSERT_MESSAGE = sa.insert(messages)


def of_living() -> sa.ColumnElement[bool]:
    """That a message's conversation is not deleted."""
    return (
        sa.select(conversations.c.id)
        .where(
            conversations.c.id == messages.c.conversation_id, conversations.c.deleted_at.is_(None)
        )
        .exists()
    )


_MESSAGE = sa.select(*SHOWN_MESSAGE).where(
    messages.c.id == sa.bindparam("of_message"),
    messages.c.owner_id == sa.bindparam("of_owner"),
    of_living(),
)
_CLOSE = (
    sa.update(messages)
    .where(
        messages.c.id == sa.bindparam("of_message"),
        messages.c.owner_id == sa.bindparam("of_owner"),
    )
    .values(
        text=sa.bindparam("new_text", type_=sa.Text),
        folded=sa.bindparam("new_folded", type_=sa.Text),
        state=sa.bindparam("new_state", type_=sa.String),
        model=sa.bindparam("new_model", type_=sa.Text),
        details=sa.bindparam("new_details", type_=messages.c.details.type),
    )
)


def upwards(conversation_id: Any, owner_id: Any, leaf_id: Any, last: Any = EVERYTHING) -> sa.CTE:
    """The way from a leaf up by `parent_id`: `id`, and `depth` from 1 at the leaf to `last`."""
    start = (
        sa.select(messages.c.id, messages.c.parent_id, sa.literal(1, sa.Integer).label("depth"))
        .where(
            messages.c.id == leaf_id,
            messages.c.conversation_id == conversation_id,
            messages.c.owner_id == owner_id,
        )
        .cte("upwards", recursive=True)
    )
    return start.union_all(
        sa.select(messages.c.id, messages.c.parent_id, start.c.depth + 1)
        .join(start, messages.c.id == start.c.parent_id)
        .where(start.c.depth < last)
    )


def _branch_statement() -> sa.Select[Any]:
    way = upwards(
        sa.bindparam("of_conversation"),
        sa.bindparam("of_owner"),
        sa.bindparam("leaf"),
        sa.bindparam("last", type_=sa.Integer),
    )
    return (
        sa.select(*SHOWN_MESSAGE).join(way, way.c.id == messages.c.id).order_by(way.c.depth.desc())
    )


_BRANCH = _branch_statement()
_CHILDREN = sa.select(*SHOWN_MESSAGE).where(
    messages.c.conversation_id == sa.bindparam("of_conversation"),
    messages.c.owner_id == sa.bindparam("of_owner"),
    messages.c.parent_id == sa.bindparam("of_parent"),
)


def storable(*texts: str | None) -> None:
    """Raises `Invalid` for a text that could not be given back byte for byte."""
    for text in texts:
        if text is None or (text.isascii() and "\x00" not in text):
            continue
        if "\x00" in text:
            raise Invalid("A text must not contain the character NUL.")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise Invalid("A text must not contain half of a surrogate pair.") from error


def to_conversation(row: sa.Row[Any]) -> Conversation:
    """A row of `SHOWN_CONVERSATION` as everybody else sees it."""
    values = dict(row._mapping)
    values["tags"] = tuple(values["tags"])
    return Conversation(**values)


def to_message(row: sa.Row[Any]) -> Message:
    """A row of `SHOWN_MESSAGE` as everybody else sees it."""
    return Message(**row._mapping)


async def conversation(r: Reading, owner_id: str, conversation_id: str) -> Conversation:
    """One conversation. Raises `Missing`, also when it was deleted."""
    found = await r.execute(
        _CONVERSATION, {"of_conversation": conversation_id, "of_owner": owner_id}
    )
    row = found.first()
    if row is None:
        raise no_conversation()
    return to_conversation(row)


def no_conversation() -> Missing:
    """What is said of a conversation that is not there, or not one's own."""
    return Missing("There is no such conversation.")


async def create_conversation(
    w: Writing,
    owner_id: str,
    *,
    title: str | None = None,
    model: str | None = None,
    system_prompt: str | None = None,
    temperature: float | None = None,
    tags: Sequence[str] = (),
    pinned: bool = False,
    archived: bool = False,
    temporary: bool = False,
    at: datetime | None = None,
) -> Conversation:
    """A new, empty conversation. Raises `Invalid` for texts that cannot be stored."""
    at = at or now()
    created = Conversation(
        id=new_id(),
        owner_id=owner_id,
        title=title,
        model=model,
        system_prompt=system_prompt,
        temperature=temperature,
        tags=tuple(tags),
        pinned=pinned,
        archived=archived,
        temporary=temporary,
        active_leaf_id=None,
        created_at=at,
        updated_at=at,
    )
    await w.execute(_INSERT_CONVERSATION, conversation_row(created))
    return created


def conversation_row(created: Conversation) -> dict[str, Any]:
    """The row of a conversation. Raises `Invalid` for texts that cannot be stored."""
    storable(created.title, created.model, created.system_prompt, *created.tags)
    return {
        **vars(created),
        "tags": list(created.tags),
        "title_by": None if created.title is None else "person",
        "title_folded": fold(created.title or ""),
    }


def message_row(owner_id: str, message: Message) -> dict[str, Any]:
    """The row of a message. Raises `Invalid` for texts that cannot be stored."""
    storable(message.text, message.model, message.speaker, message.external_id)
    return {
        **vars(message),
        "owner_id": owner_id,
        "folded": fold(message.text),
        "details": None if message.details is None else dict(message.details),
    }


async def add_message(w: Writing, owner_id: str, message: Message) -> None:
    """Add one message; it becomes the end of the branch in view. Raises as `add_messages`."""
    await add_messages(w, owner_id, (message,))


async def add_messages(w: Writing, owner_id: str, added: Sequence[Message]) -> None:
    """Add messages of one conversation, parents first; the last becomes the active leaf.

    Raises `Missing` when the conversation is not there, `Conflict` when a parent is in another
    conversation or a message is there already, `Invalid` for texts that cannot be stored.
    """
    last = added[-1]
    if any(one.conversation_id != last.conversation_id for one in added):
        raise Conflict("These messages are of different conversations.", slug="wrong-parent")
    rows = [message_row(owner_id, one) for one in added]
    moved = await w.execute(
        _MOVE_ON,
        {
            "of_conversation": last.conversation_id,
            "of_owner": owner_id,
            "leaf": last.id,
            "moved_at": last.at,
        },
    )
    if moved.rowcount == 0:
        raise no_conversation()
    await insert_messages(w, rows)


async def insert_messages(w: Writing, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows of messages, parents first. Raises `Conflict`."""
    try:
        await w.execute(_INSERT_MESSAGE, rows)
    except IntegrityError as error:
        raise Conflict(
            "A message follows one that is not in its conversation, or is there already.",
            slug="wrong-parent",
        ) from error


async def close_message(
    w: Writing,
    owner_id: str,
    message_id: str,
    *,
    text: str,
    state: MessageState,
    model: str | None,
    details: Mapping[str, Any] | None,
) -> None:
    """Write what a message came to. Raises `Missing`, and `Invalid` as `add_messages`."""
    storable(text, model)
    closed = await w.execute(
        _CLOSE,
        {
            "of_message": message_id,
            "of_owner": owner_id,
            "new_text": text,
            "new_folded": fold(text),
            "new_state": state,
            "new_model": model,
            "new_details": None if details is None else dict(details),
        },
    )
    if closed.rowcount == 0:
        raise no_message()


def no_message() -> Missing:
    """What is said of a message that is not there, or not one's own."""
    return Missing("There is no such message.")


async def message(r: Reading, owner_id: str, message_id: str) -> Message:
    """One message. Raises `Missing`, also when its conversation was deleted."""
    found = await r.execute(_MESSAGE, {"of_message": message_id, "of_owner": owner_id})
    row = found.first()
    if row is None:
        raise no_message()
    return to_message(row)


async def branch(
    r: Reading, owner_id: str, conversation_id: str, leaf_id: str, last: int | None = None
) -> list[Message]:
    """The messages from the root to `leaf_id`, or the `last` ones of them.

    Empty when the leaf is not in this conversation of this owner.
    """
    found = await r.execute(
        _BRANCH,
        {
            "leaf": leaf_id,
            "of_conversation": conversation_id,
            "of_owner": owner_id,
            "last": EVERYTHING if last is None else last,
        },
    )
    return [to_message(row) for row in found.all()]


async def children(
    r: Reading, owner_id: str, conversation_id: str, parent_id: str | None
) -> list[Message]:
    """What follows a message, oldest first; with `None`, the beginnings of the conversation."""
    statement = _CHILDREN
    values = {"of_conversation": conversation_id, "of_owner": owner_id, "of_parent": parent_id}
    if parent_id is None:
        statement = sa.select(*SHOWN_MESSAGE).where(
            messages.c.conversation_id == conversation_id,
            messages.c.owner_id == owner_id,
            messages.c.parent_id.is_(None),
        )
        values = {}
    found = await r.execute(statement.order_by(messages.c.id), values)
    return [to_message(row) for row in found.all()]


async def set_active_leaf(w: Writing, owner_id: str, conversation_id: str, message_id: str) -> None:
    """Show the branch that ends here. Raises `Missing` when either is not there."""
    inside = (
        sa.select(messages.c.id)
        .where(messages.c.id == message_id, messages.c.conversation_id == conversation_id)
        .exists()
    )
    moved = await w.execute(
        sa.update(conversations).where(_OWN, inside).values(active_leaf_id=message_id),
        {"of_conversation": conversation_id, "of_owner": owner_id},
    )
    if moved.rowcount == 0:
        raise no_message()


async def set_title(
    w: Writing, owner_id: str, conversation_id: str, title: str | None, by: TitledBy
) -> bool:
    """Name a conversation; whether the name was taken: a model's never replaces a person's.

    Raises `Missing`. A person who takes the title away leaves the naming to the model again.
    """
    storable(title)
    statement = (
        sa.update(conversations)
        .where(_OWN)
        .values(title=title, title_folded=fold(title or ""), title_by=None if title is None else by)
    )
    if by == "model":
        statement = statement.where(conversations.c.title_by.is_distinct_from("person"))
    named = await w.execute(statement, {"of_conversation": conversation_id, "of_owner": owner_id})
    if named.rowcount == 0:
        await conversation(w, owner_id, conversation_id)
        return False
    return True


async def set_fields(
    w: Writing, owner_id: str, conversation_id: str, values: Mapping[str, Any]
) -> None:
    """Change plain fields: model, system prompt, temperature, tags, marks. Raises `Missing`."""
    storable(values.get("model"), values.get("system_prompt"), *values.get("tags", ()))
    changed = await w.execute(
        sa.update(conversations).where(_OWN).values(**values),
        {"of_conversation": conversation_id, "of_owner": owner_id},
    )
    if changed.rowcount == 0:
        raise no_conversation()
