"""Bad input on every route: refused as a problem that names the field, never an error of ours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.api.test_permissions import somewhere

if TYPE_CHECKING:
    from mongars.body import Body

DEEP = 900
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
LEAVING = {"/api/v1/auth/logout", "/api/v1/me/sessions/{session_id}"}


@dataclass(frozen=True)
class Taking:
    """A route that takes a body."""

    method: str
    path: str
    kind: str
    fields: tuple[str, ...]
    needed: bool


def described(body: Body) -> dict[str, Any]:
    from mongars.api.app import create_app

    told: dict[str, Any] = create_app(body.settings).openapi()
    return told


def taking(body: Body) -> Iterator[Taking]:
    """Every route with a body, as the application describes it."""
    told = described(body)
    for path, calls in told["paths"].items():
        for method, call in calls.items():
            asked = call.get("requestBody")
            if asked is None:
                continue
            for kind, content in asked["content"].items():
                fields = tuple(_fields(told, content["schema"]))
                needed = bool(asked.get("required"))
                yield Taking(method.upper(), path, kind, fields, needed)


def _fields(told: dict[str, Any], schema: dict[str, Any]) -> Iterator[str]:
    for one in (schema, *schema.get("anyOf", ())):
        if "$ref" in one:
            name = one["$ref"].rpartition("/")[2]
            yield from told["components"]["schemas"][name].get("properties", {})


UNREADABLE: dict[str, bytes] = {
    "not JSON": b"{'message': 'hello'}",
    "cut off": b'{"message": "hel',
    "two values": b"{} {}",
    "a comment": b"{} // no",
    "NaN": b'{"zzz": NaN}',
    "infinity": b'{"zzz": -Infinity}',
    "a number beyond all": b'{"zzz": 1e999}',
    "a number of 5,000 digits": b'{"zzz": ' + b"9" * 5000 + b"}",
    "deep arrays": b'{"zzz": ' + b"[" * DEEP + b"]" * DEEP + b"}",
    "deep objects": b'{"zzz":' * DEEP + b"1" + b"}" * DEEP,
    "100,000 brackets": b"[" * 100_000,
    "a name twice": b'{"zzz": 1, "zzz": 2}',
    "raw NUL": b'{"zzz": "a\x00b"}',
    "invalid UTF-8": b'{"zzz": "\xff\xfe"}',
    "raw surrogate": b'{"zzz": "\xed\xa0\x80"}',
    "UTF-16": '{"zzz": 1}'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf{}",
    "only NUL": b"\x00",
}
"""Bodies that are no JSON text that could be given back."""

WRONG: dict[str, tuple[bytes, str | None]] = {
    "a list": (b"[]", None),
    "a list of objects": (b'[{"message": "hello"}]', None),
    "a text": (b'"hello"', None),
    "a number": (b"42", None),
    "true": (b"true", None),
    "an unknown field": (b'{"zzz": 1}', "zzz"),
    "an unknown field with a long name": (b'{"' + b"z" * 5000 + b'": 1}', None),
    "escaped NUL": (rb'{"zzz": "\u0000"}', "zzz"),
    "half a surrogate pair": (rb'{"zzz": "\ud83d"}', "zzz"),
    "a surrogate in a name": (rb'{"\udead": 1}', None),
    "a prototype": (b'{"__proto__": {"x": 1}}', "__proto__"),
}
"""JSON of the wrong shape, and the field that the answer has to name."""

HOSTILE: dict[str, str] = {
    "escaped NUL": r'"a\u0000b"',
    "half a surrogate pair": r'"\udfff"',
    "an object": '{"a": [{"b": null}]}',
    "a list of lists": "[[[]]]",
    "a huge number": "9" * 40,
    "a huge negative fraction": "-1e308",
    "true": "true",
    "100,000 letters": '"' + "a" * 100_000 + '"',
    "an empty text": '""',
    "a text that turns around": '"\u202e\ufeff\u2028"',
}
"""Values for a field of any type."""


def check(answered: httpx.Response, what: object) -> dict[str, Any]:
    """A 4xx in the shape that this path's clients read."""
    assert 400 <= answered.status_code < 500, (what, answered.status_code, answered.text[:300])
    told: dict[str, Any] = answered.json()
    if answered.request.url.path.startswith("/v1/"):
        assert answered.headers["content-type"] == JSON, what
        assert told["error"]["message"], what
    else:
        assert answered.headers["content-type"] == "application/problem+json", what
        assert told["status"] == answered.status_code, what
        assert told["type"].startswith("urn:mongars:problem:"), what
    return told


def named(told: dict[str, Any]) -> set[str]:
    """The fields that an answer names."""
    if "error" in told:
        return set(str(told["error"]["param"] or "").split("."))
    return {str(part) for error in told["errors"] for part in error["loc"]}


async def send(client: httpx.AsyncClient, to: Taking, content: bytes, kind: str) -> httpx.Response:
    headers = {"content-type": kind} if kind else {}
    return await client.request(to.method, somewhere(to.path), content=content, headers=headers)


@pytest.mark.parametrize("kind", ["Application/JSON ; charset=utf-8", "a/b+json", ""])
async def test_what_is_no_json_is_refused_by_every_route_whatever_its_type_is_called(
    body: Body, admin: httpx.AsyncClient, kind: str
) -> None:
    routes = [one for one in taking(body) if one.kind == JSON]
    assert len(routes) > 15
    for to in routes:
        for what, content in UNREADABLE.items():
            told = check(await send(admin, to, content, kind), (to.path, what, kind))
            if what == "a name twice":
                assert "zzz" in json.dumps(told), to


async def test_what_has_the_wrong_shape_is_refused_by_every_route_and_named(
    body: Body, admin: httpx.AsyncClient
) -> None:
    for to in taking(body):
        if to.kind != JSON:
            continue
        for what, (content, field) in WRONG.items():
            told = check(await send(admin, to, content, JSON), (to.path, what))
            if field is not None:
                assert field in named(told) or "error" in told, (to.path, what, told)
        if to.needed:
            check(await send(admin, to, b"", JSON), (to.path, "nothing"))
        for kind in ("text/plain", "application/xml", "multipart/form-data", "x", "application/"):
            check(await send(admin, to, b'{"zzz": 1}', kind), (to.path, kind))


async def test_no_value_in_any_field_is_an_error_of_ours(
    body: Body, admin: httpx.AsyncClient
) -> None:
    for to in taking(body):
        if to.kind != JSON or to.path in LEAVING:
            continue
        for field in to.fields:
            for what, value in HOSTILE.items():
                alone = f'{{"{field}": {value}}}'.encode()
                answered = await send(admin, to, alone, JSON)
                assert answered.status_code < 500, (to.path, field, what, answered.text[:300])
                told = check(
                    await send(admin, to, alone[:-1] + b', "zzz": 1}', JSON), (to.path, what)
                )
                if what in ("escaped NUL", "half a surrogate pair"):
                    assert field in named(told), (to.path, field, what, told)


async def test_a_body_of_ten_megabytes_is_refused_before_it_is_read(
    body: Body, admin: httpx.AsyncClient
) -> None:
    big = b'{"zzz": "' + b"a" * 10_000_000 + b'"}'
    for to in taking(body):
        if not to.kind.startswith("multipart/"):  # files may be large
            told = check(await send(admin, to, big, to.kind), to)
            assert told.get("status", 413) == 413, to


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"grant_type=password",
        b"grant_type=password&username=a%00b&password=x",
        b"grant_type=password&username=%ed%a0%80&password=%ff",
        b"grant_type=password&username=" + b"a" * 5000 + b"&password=x",
        b"grant_type=password&username=a&password=" + b"b" * 5000,
        b"grant_type[]=password&username[$ne]=1",
        b"&&&===&%%%",
        b"\x00\xff",
        b"&".join(b"a%d=1" % number for number in range(3000)),
    ],
)
@pytest.mark.parametrize("kind", [FORM, "multipart/form-data; boundary=x", JSON])
async def test_a_form_that_is_wrong_is_refused(
    client: httpx.AsyncClient, content: bytes, kind: str
) -> None:
    answered = await client.post("/api/v1/token", content=content, headers={"content-type": kind})
    check(answered, (content[:80], kind))


async def test_ids_and_queries_that_nothing_can_have_are_refused(
    body: Body, admin: httpx.AsyncClient
) -> None:
    ids = [
        "%00",
        "a%00b",
        "%ff%fe",
        "%ed%a0%80",
        "x" * 4000,
        "..%2f..%2fetc",
        "%f0%9f%92%a9",
        "'--",
    ]
    for path, calls in described(body)["paths"].items():
        for method, call in calls.items():
            where = {one["in"] for one in call.get("parameters", ())}
            if "path" in where:
                for one in ids:
                    parts = [one if part.startswith("{") else part for part in path.split("/")]
                    answered = await admin.request(method, "/".join(parts), json={})
                    check(answered, (method, path, one))
            for parameter in call.get("parameters", ()):
                if parameter["in"] == "query":
                    await refused_queries(admin, method, path, parameter)


async def refused_queries(
    client: httpx.AsyncClient, method: str, path: str, parameter: dict[str, Any]
) -> None:
    """Wrong values of one query parameter: never an error of ours, and refused where they must be."""
    numeric = "integer" in json.dumps(parameter["schema"])
    for value in ("%00", "-1", "1" + "0" * 30, "1" + "0" * 5000, "NaN", "%ff", "x" * 4000, "1e3"):
        address = f"{somewhere(path)}?{parameter['name']}={value}"
        answered = await client.request(method, address, follow_redirects=False)
        what = (method, path, parameter["name"], value[:20], answered.text[:300])
        # 503: a provider for signing in that is not configured
        assert answered.status_code < 500 or answered.status_code == 503, what
        if numeric or value == "%00":
            assert parameter["name"] in named(check(answered, what)), what


async def test_headers_that_carry_values_are_read_as_carefully(alice: httpx.AsyncClient) -> None:
    for name, value in (
        ("Idempotency-Key", b""),
        ("Idempotency-Key", b"k" * 201),
        ("Last-Event-ID", b"-1"),
        ("Last-Event-ID", b"9" * 5000),
        ("Last-Event-ID", "\u0663".encode()),
        ("Last-Event-ID", b"\xb2"),
    ):
        if name == "Idempotency-Key":
            answered = await alice.post(
                "/api/v1/chat", json={"message": "x"}, headers=[(name.encode(), value)]
            )
        else:
            answered = await alice.get(
                "/api/v1/turns/nothing/events", headers=[(name.encode(), value)]
            )
        check(answered, (name, value[:20]))


async def test_two_hosts_in_one_request_are_refused(alice: httpx.AsyncClient) -> None:
    hosts = [(b"host", b"evil.example"), (b"host", b"localhost")]
    told = check(await alice.get("/api/v1/me", headers=hosts), "two hosts")
    assert told["type"] == "urn:mongars:problem:host-not-allowed"


@pytest.mark.parametrize("error", ["%0d%0aSet-Cookie:x=1", "%22,x=%22", "%F1%B9%8D%87", "a b"])
async def test_what_a_provider_sends_stays_out_of_headers(
    client: httpx.AsyncClient, error: str
) -> None:
    answered = await client.get(f"/api/v1/auth/oidc/callback?state=x&error={error}")
    check(answered, error)
    assert answered.headers["www-authenticate"] == "Bearer"
