"""What requests and answers are made of."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Generic, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
)

from mongars.ids import rfc3339

Item = TypeVar("Item")

Time = Annotated[datetime, PlainSerializer(rfc3339, return_type=str, when_used="json")]
"""A moment, told as RFC 3339 in UTC."""


def _storable(text: str) -> str:
    if "\x00" in text:
        raise ValueError("a text must not contain the character NUL")
    return text


Words = Annotated[str, AfterValidator(_storable)]
"""Any text that can be given back byte for byte."""

Line = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=200),
    AfterValidator(_storable),
]
"""A short text of one line, such as a name or a title."""

Id = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.:-]+$")]
"""An opaque id."""

Limit = Annotated[int, Field(ge=1, le=200)]


class Asked(BaseModel):
    """The base of every request body: nothing unknown, no silent conversion."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=False,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
    )


class Told(BaseModel):
    """The base of every answer."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True, from_attributes=True)


class Page(Told, Generic[Item]):
    """A part of a list, and the cursor to ask for the next one with; null at the end."""

    items: Sequence[Item]
    next: str | None = None


class Enqueued(Told):
    """Long work was taken in; `GET /jobs/{job_id}` tells how far it is."""

    job_id: str
