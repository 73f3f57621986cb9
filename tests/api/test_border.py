"""What every request meets: host, size, request id, headers, problems instead of failures."""

from __future__ import annotations

import httpx
import pytest


async def test_an_unknown_name_is_refused_and_health_is_not(client: httpx.AsyncClient) -> None:
    refused = await client.get("/api/v1/me", headers={"host": "evil.example"})
    assert refused.status_code == 403
    assert refused.json()["type"] == "urn:mongars:problem:host-not-allowed"
    for path in ("/healthz", "/readyz", "/metrics"):
        assert (await client.get(path, headers={"host": "10.0.0.7:8000"})).status_code == 200


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "127.0.0.1:1", "[::1]:8000", "[::1]"]
)
async def test_loopback_names_are_answered(client: httpx.AsyncClient, host: str) -> None:
    assert (await client.get("/api/v1/me", headers={"host": host})).status_code == 401


async def test_a_body_over_the_limit_is_refused_with_and_without_its_length(
    alice: httpx.AsyncClient,
) -> None:
    big = b'{"message": "' + b"a" * 1_100_000 + b'"}'

    async def pieces():  # type: ignore[no-untyped-def]
        for start in range(0, len(big), 65536):
            yield big[start : start + 65536]

    for content in (big, pieces()):
        answered = await alice.post("/api/v1/chat", content=content)
        assert answered.status_code == 413
        assert answered.json()["type"] == "urn:mongars:problem:too-large"


async def test_every_answer_carries_a_request_id_and_safe_headers(
    client: httpx.AsyncClient,
) -> None:
    answered = await client.get("/api/v1/me", headers={"x-request-id": "my-request-42"})
    assert answered.headers["x-request-id"] == "my-request-42"
    assert answered.json()["request_id"] == "my-request-42"
    assert answered.headers["x-content-type-options"] == "nosniff"
    assert answered.headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in answered.headers
    forged = await client.get("/healthz", headers={"x-request-id": "a\tb" * 40})
    assert forged.headers["x-request-id"] != "a\tb" * 40


async def test_addresses_and_methods_that_do_not_exist_are_problems(
    client: httpx.AsyncClient,
) -> None:
    nothing = await client.get("/api/v1/nothing")
    assert (nothing.status_code, nothing.headers["content-type"]) == (
        404,
        "application/problem+json",
    )
    wrong = await client.put("/healthz")
    assert (wrong.status_code, wrong.json()["type"]) == (
        405,
        "urn:mongars:problem:method-not-allowed",
    )
    assert wrong.json()["status"] == 405


async def test_what_is_not_built_says_so(alice: httpx.AsyncClient) -> None:
    for path in ("/api/v1/memories", "/api/v1/memories/search", "/api/v1/personality", "/mcp"):
        answered = await alice.post(path, json={})
        assert (answered.status_code, answered.json()["type"]) == (
            501,
            "urn:mongars:problem:not-built",
        )


async def test_docs_need_nothing_from_outside(client: httpx.AsyncClient) -> None:
    page = await client.get("/docs")
    assert page.status_code == 200
    assert "http" not in page.text.replace("http-equiv", "")
    for name in ("swagger-ui.css", "swagger-ui-bundle.js", "start.js", "favicon.png"):
        assert (await client.get(f"/docs/{name}")).status_code == 200
    assert (await client.get("/docs/../settings.py")).status_code == 404


async def test_metrics_off_loopback_need_their_scope(
    body: object, client: httpx.AsyncClient, admin: httpx.AsyncClient, alice: httpx.AsyncClient
) -> None:
    for name in ("forwarded", "x-real-ip", "x-forwarded-host", "via"):
        assert (await client.get("/metrics", headers={name: "x"})).status_code == 401
    far = {"x-forwarded-for": "203.0.113.7"}
    assert (await client.get("/metrics", headers=far)).status_code == 401
    assert (await alice.get("/metrics", headers=far)).status_code == 403
    await alice.post("/api/v1/chat", json={"message": "hello"})
    told = await admin.get("/metrics", headers=far)
    assert told.status_code == 200
    assert "mongars_turns_total" in told.text
    assert "mongars_llm_first_token_seconds" in told.text
