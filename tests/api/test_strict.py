"""JSON bodies are read strictly; what is refused is named."""

import pytest

from mongars.api.strict import DEPTH, read_json
from mongars.errors import Invalid, Malformed


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe{\x00}\x00",
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"n": ' + b"9" * 41 + b"}",
        b'{"a": "\x00"}',
        b"\xed\xa0\x80",
    ],
)
def test_what_cannot_be_read_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        read_json(body)


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
        b"[" * (DEPTH + 1) + b"]" * (DEPTH + 1),
    ],
)
def test_what_is_nested_too_deep_is_over_a_limit(body: bytes) -> None:
    with pytest.raises(Invalid) as caught:
        read_json(body)
    assert caught.value.problem == "too-deep"


def test_a_name_that_stands_twice_is_named() -> None:
    with pytest.raises(Malformed) as caught:
        read_json(b'{"a": {"b": 1, "b": 2}}')
    assert caught.value.errors[0].loc == ("body", "b")


@pytest.mark.parametrize("escape", [r"\u0000", r"\ud800", r"\uDFFF x", r"\udc00\ud800"])
def test_what_could_not_be_given_back_is_named(escape: str) -> None:
    with pytest.raises(Invalid) as caught:
        read_json(b'{"a": [0, {"b": "x%s"}]}' % escape.encode())
    assert caught.value.errors[0].loc == ("body", "a", 1, "b")


def test_a_name_that_cannot_be_stored_is_refused_readably() -> None:
    with pytest.raises(Invalid) as caught:
        read_json(rb'{"\ud800": 1}')
    str(caught.value.errors[0].loc).encode()


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"a": "\\ud83d\\ude00"}', {"a": "\U0001f600"}),
        (b"[" * DEPTH + b"]" * DEPTH, None),
        (b'{"a": 1e5, "b": [true, null]}', {"a": 1e5, "b": [True, None]}),
        (b'{"a": "' + b"[" * 200 + b'"}', {"a": "[" * 200}),
    ],
)
def test_what_is_right_is_read(body: bytes, value: object) -> None:
    read = read_json(body)
    assert value is None or read == value
