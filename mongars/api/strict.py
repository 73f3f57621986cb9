"""Reading JSON bodies strictly, before any model sees them.

Refused as 400 `malformed-json`: what is not UTF-8, not JSON, NaN and Infinity, a name twice in one
object, numbers too long to read. Refused as 422: nesting deeper than 64 (`too-deep`) and, naming the
field, texts that cannot be given back byte for byte (NUL, half of a surrogate pair).
"""

import json
import math
import re
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from mongars.errors import FieldFault, Invalid, Malformed

DEPTH = 64
_SUSPECT = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])|\x00")


class StrictRoute(APIRoute):
    """A route whose JSON body is read by `read_json`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Read first, then let the framework validate what was read."""
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle

        async def strictly(request: Request) -> Response:
            kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            if not kind or "json" in kind:  # all that the framework itself would read as JSON
                body = await request.body()
                if body:
                    request._json = read_json(body)
            return await handle(request)

        return strictly


def read_json(body: bytes) -> Any:
    """The value of a JSON text. Raises `Malformed` or `Invalid` (see above)."""
    try:
        text = body.decode()
        value = json.loads(
            text,
            object_pairs_hook=_no_doubles,
            parse_constant=_no_constant,
            parse_int=_whole,
            parse_float=_finite,
        )
    except UnicodeDecodeError as error:
        raise Malformed("The body is not UTF-8.") from error
    except json.JSONDecodeError as error:
        raise Malformed(
            f"The body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}."
        ) from error
    except RecursionError as error:
        raise _too_deep() from error
    if _depth_over(text, value):
        raise _too_deep()
    if _SUSPECT.search(body):
        faults = [FieldFault(("body", *loc), msg) for loc, msg in _unstorable(value, ())]
        if faults:
            raise Invalid("Some fields are not as they must be.", errors=faults[:20])
    return value


def _too_deep() -> Invalid:
    return Invalid(f"The body is nested deeper than {DEPTH} levels.", slug="too-deep")


def _no_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise Malformed(
            "The body names a field twice in one object.",
            errors=[FieldFault(("body", _shown(twice)), "stands twice in the same object")],
        )
    return value


def _shown(name: str) -> str:
    """A field's name as it may stand in an answer."""
    return name.encode("utf-8", "replace").decode()[:100]


def _no_constant(name: str) -> Any:
    raise Malformed(f"The body is not JSON: {name} is not a JSON number.")


def _whole(digits: str) -> int:
    if len(digits) > 40:
        raise Malformed("The body holds a number of more than 40 digits.")
    return int(digits)


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise Malformed("The body holds a number that is too large.")
    return number


def _depth_over(text: str, value: Any) -> bool:
    """Whether arrays and objects stand deeper than `DEPTH` (only looked at where they could)."""
    if text.count("[") + text.count("{") <= DEPTH:
        return False
    level = [value]
    for _ in range(DEPTH):
        level = [
            child
            for one in level
            if isinstance(one, dict | list)
            for child in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            return False
    return any(isinstance(one, dict | list) for one in level)


def _unstorable(
    value: Any, loc: tuple[str | int, ...]
) -> Iterator[tuple[tuple[str | int, ...], str]]:
    if isinstance(value, str):
        if "\x00" in value:
            yield loc, "a text must not contain the character NUL"
        try:
            value.encode()
        except UnicodeEncodeError:
            yield loc, "a text must not contain half of a surrogate pair"
    elif isinstance(value, dict):
        for name, child in value.items():
            yield from _unstorable(name, (*loc, _shown(name)))
            yield from _unstorable(child, (*loc, _shown(name)))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from _unstorable(child, (*loc, index))
