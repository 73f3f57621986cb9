"""Conversations brought in and given out over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import httpx
import pytest

if TYPE_CHECKING:
    from mongars.body import Body

V1 = "/api/v1"
TALK = {
    "title": "A walk",
    "messages": [
        {"role": "user", "text": "  hé\n", "at": "2026-01-02T03:04:05.123456Z"},
        {"role": "assistant", "text": "hi", "at": "2026-01-02T03:04:06Z", "external_id": "1"},
    ],
}


@pytest.fixture
async def working(body: Body) -> AsyncIterator[None]:
    """A worker that does the jobs."""
    worker = asyncio.create_task(body.jobs.run())
    yield
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)


async def ended(client: httpx.AsyncClient, body: Body, job_id: str) -> dict[str, Any]:
    me = (await client.get(f"{V1}/me")).json()["id"]
    async with asyncio.timeout(30), contextlib.aclosing(body.jobs.watch(job_id, me)) as states:
        async for _ in states:
            pass
    return dict((await client.get(f"{V1}/jobs/{job_id}")).json())


async def bring(client: httpx.AsyncClient, *entries: Any, **more: Any) -> httpx.Response:
    body = {"format": "mongars", "conversations": entries, **more}
    return await client.post(f"{V1}/conversations/import", json=body)


async def test_conversations_come_in_once(alice: httpx.AsyncClient) -> None:
    answer = await bring(alice, TALK, {"title": "bad"})
    assert answer.status_code == 200
    told = answer.json()
    assert told["imported"] == {"conversations": 1, "messages": 2}
    assert [(one["index"], "messages" in one["why"]) for one in told["skipped"]] == [(1, True)]
    again = (await bring(alice, TALK)).json()
    assert again["imported"] == {"conversations": 0, "messages": 0}
    assert len(again["skipped"]) == 1


async def test_a_body_that_is_wrong_is_refused(alice: httpx.AsyncClient) -> None:
    address = f"{V1}/conversations/import"
    bodies: list[tuple[Any, int]] = [
        (b"nonsense", 400),
        (b'{"format": "mongars"}', 422),
        (b'{"format": "other", "conversations": []}', 422),
        (b'{"format": "mongars", "conversations": [], "more": 1}', 422),
        (b'{"format": "mongars", "conversations": ["\\u0000"]}', 422),
        (b'{"format": "chatgpt", "conversations": []}', 501),
        (b'{"format": "openwebui", "conversations": []}', 501),
        (b'["' + b"x" * 1024**2 + b'"]', 413),
    ]
    for content, status in bodies:
        headers = {"content-type": "application/json"}
        answer = await alice.post(address, content=content, headers=headers)
        assert (answer.status_code, content[:60]) == (status, content[:60])


async def upload(client: httpx.AsyncClient, content: bytes, **fields: str) -> httpx.Response:
    files = {"file": ("talks.json", content, "application/json")}
    return await client.post(f"{V1}/conversations/import", files=files, data=fields)


async def test_a_file_comes_in_as_a_job(
    alice: httpx.AsyncClient, bob: httpx.AsyncClient, body: Body, working: None
) -> None:
    talks = [{**TALK, "title": f"talk {place} " + "x" * 900} for place in range(1500)]
    answer = await upload(alice, json.dumps(talks).encode(), format="mongars")
    assert answer.status_code == 202
    job = await ended(alice, body, answer.json()["job_id"])
    assert job["result"]["imported"] == {"conversations": 1500, "messages": 3000}
    assert (job["state"], job["unit"], job["done"]) == ("done", "bytes", job["total"])
    assert (await bob.get(f"{V1}/conversations")).json()["items"] == []


async def test_a_form_that_is_wrong_is_refused(alice: httpx.AsyncClient) -> None:
    assert (await upload(alice, b"[]", format="other")).status_code == 422
    assert (await upload(alice, b"[]", format="chatgpt")).status_code == 501
    address = f"{V1}/conversations/import"
    nothing = await alice.post(address, files={"other": ("x", b"[]")})
    assert nothing.status_code == 422
    headers = {"content-type": "multipart/form-data; boundary=x"}
    assert (await alice.post(address, content=b"nonsense", headers=headers)).status_code == 400


async def test_an_export_is_brought_in_elsewhere_without_loss(
    alice: httpx.AsyncClient, bob: httpx.AsyncClient
) -> None:
    await bring(alice, TALK)
    talk = (await alice.get(f"{V1}/conversations")).json()["items"][0]
    answer = await alice.get(f"{V1}/conversations/{talk['id']}/export")
    assert answer.headers["content-type"] == "application/json"
    assert "attachment" in answer.headers["content-disposition"]
    told = await bob.post(f"{V1}/conversations/import", content=answer.content)
    assert told.json()["imported"] == {"conversations": 1, "messages": 2}
    his = (await bob.get(f"{V1}/conversations")).json()["items"][0]
    again = await bob.get(f"{V1}/conversations/{his['id']}/export")
    assert again.json()["conversations"] == answer.json()["conversations"]
    assert [one["text"] for one in again.json()["conversations"][0]["messages"]] == ["  hé\n", "hi"]
    markdown = await alice.get(
        f"{V1}/conversations/{talk['id']}/export", params={"format": "markdown"}
    )
    assert markdown.headers["content-type"] == "text/markdown; charset=utf-8"
    assert "  hé\n" in markdown.text


async def test_everything_is_exported_by_a_job_and_downloaded_by_its_owner(
    alice: httpx.AsyncClient, bob: httpx.AsyncClient, body: Body, working: None
) -> None:
    await bring(alice, TALK)
    answer = await alice.get(f"{V1}/me/export")
    assert answer.status_code == 202
    job = await ended(alice, body, answer.json()["job_id"])
    path = job["result"]["path"]
    whole = await alice.get(path)
    assert whole.status_code == 200
    assert int(whole.headers["content-length"]) == len(whole.content) == job["result"]["bytes"]
    told = await bob.post(f"{V1}/conversations/import", content=whole.content)
    assert told.json()["imported"] == {"conversations": 1, "messages": 2}
    assert (await bob.get(path)).status_code == 404
    assert (await alice.get(f"{V1}/me/exports/nothing")).status_code == 404
