"""One conversation on its way in or out: the mongars format.

`{title, messages: [{role, speaker?, text, at, external_id?}]}` is enough. The further fields carry
what an export knows: the tree (`parent` is the `external_id` of what a message follows; left out,
it follows the one before it), settings, marks and feedback. A time without zone is UTC.
"""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from mongars.errors import Invalid
from mongars.hippocampus.message import MessageState, Role

MOST_TAGS = 100


def _in_utc(at: datetime) -> datetime:
    try:
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("is no time between the years 1 and 9999") from error


def _storable(text: str) -> str:
    if "\x00" in text:
        raise ValueError("a text must not contain the character NUL")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("a text must not contain half of a surrogate pair") from None
    return text


Moment = Annotated[datetime, AfterValidator(_in_utc)]
Text = Annotated[str, AfterValidator(_storable)]
Name = Annotated[Text, Field(max_length=200)]


class _Read(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class FeedbackEntry(_Read):
    """What was thought of a message."""

    value: Literal[-1, 1]
    text: Text | None = None


class MessageEntry(_Read):
    """One message."""

    role: Role
    text: Text
    at: Moment
    speaker: Name | None = None
    external_id: Annotated[Name, Field(min_length=1)] | None = None
    parent: Name | None = None
    state: MessageState = "done"
    model: Name | None = None
    details: Mapping[str, Any] | None = None
    feedback: FeedbackEntry | None = None

    @property
    def says_parent(self) -> bool:
        """Whether it says what it follows."""
        return "parent" in self.model_fields_set


class ConversationEntry(_Read):
    """One conversation."""

    title: Annotated[Text, Field(max_length=1000)] | None = None
    messages: Sequence[MessageEntry]
    external_id: Annotated[Name, Field(min_length=1)] | None = None
    active_leaf: Name | None = None
    model: Name | None = None
    system_prompt: Text | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    tags: Annotated[Sequence[Name], Field(max_length=MOST_TAGS)] = ()
    pinned: bool = False
    archived: bool = False
    temporary: bool = False
    created_at: Moment | None = None
    updated_at: Moment | None = None

    def key(self) -> str:
        """What tells this conversation from others of its owner, in later files too.

        Its `external_id`; without one all that is said in it.
        """
        if self.external_id is not None:
            return f"id:{hashlib.sha256(self.external_id.encode()).hexdigest()}"
        said = [
            [one.role, one.speaker, one.text, one.at.isoformat(), one.external_id]
            for one in self.messages
        ]
        return f"said:{hashlib.sha256(orjson.dumps([self.title, said])).hexdigest()}"


class PresetEntry(_Read):
    """A preset."""

    name: Annotated[Name, Field(min_length=1)]
    model: Name | None = None
    system_prompt: Text | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    id: Text | None = None
    created_at: Moment | None = None


def read_preset(given: Any) -> PresetEntry:
    """A preset out of JSON. Raises `Invalid` as `read_entry`."""
    try:
        return PresetEntry.model_validate(given)
    except ValidationError as error:
        raise _wrong("preset", error) from error


def _wrong(what: str, error: ValidationError) -> Invalid:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or what
    why = str(first["msg"]).removeprefix("Value error, ")
    return Invalid(f"{_plain(where)}: {why}")


def read_entry(given: Any) -> ConversationEntry:
    """A conversation out of JSON. Raises `Invalid` that says what is wrong, never with its words."""
    try:
        entry = ConversationEntry.model_validate(given)
    except ValidationError as error:
        raise _wrong("conversation", error) from error
    try:
        for one in entry.messages:
            orjson.dumps(one.details)
    except TypeError as error:
        raise Invalid("messages: details that cannot be kept as JSON") from error
    _check_tree(entry)
    return entry


def _plain(where: str) -> str:
    return where.encode("utf-8", "replace").decode()[:200]


def _check_tree(entry: ConversationEntry) -> None:
    seen: set[str] = set()
    for place, one in enumerate(entry.messages):
        if one.parent is not None and one.parent not in seen:
            raise Invalid(f"messages.{place}.parent: no message before it has this external_id")
        if one.external_id in seen:
            raise Invalid(f"messages.{place}.external_id: stands twice in this conversation")
        if one.external_id is not None:
            seen.add(one.external_id)
    if entry.active_leaf is not None and entry.active_leaf not in seen:
        raise Invalid("active_leaf: no message has this external_id")
