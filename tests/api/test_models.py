"""`/models` over the whole application: list, a clear yes, a job, choosing and removing."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from mongars.body import Body
from mongars.llm.library import BUILT_IN
from mongars.settings import Settings, load
from mongars.testing.hub import HubRepository, HubServer, tiny_gguf
from mongars.worker import work

TWIN = "mongars.testing.models:ScriptedModel"
REPOSITORY = "maker/Small-GGUF"
PULLED = "embedded/small-Q4_K_M"


@pytest.fixture
async def hub() -> AsyncIterator[HubServer]:
    async with HubServer({REPOSITORY: HubRepository({"small-Q4_K_M.gguf": tiny_gguf()})}) as hub:
        yield hub


@pytest.fixture
def settings(tmp_path: Path, hub: HubServer) -> Settings:
    environ = {
        "MONGARS_LLM__BACKEND": TWIN,
        "MONGARS_LLM__HUB_URL": hub.url,
        "MONGARS_LLM__DISK_RESERVE_BYTES": "0",
    }
    return load(tmp_path / "data", environ)


@pytest.fixture
async def working(body: Body) -> AsyncIterator[None]:
    worker = asyncio.create_task(work(body))
    yield
    worker.cancel()
    await asyncio.wait({worker})


async def pulled(admin: httpx.AsyncClient) -> dict[str, Any]:
    asked = {"source": REPOSITORY, "accept_license": True}
    answer = await admin.post("/api/v1/models/pull", json=asked)
    assert answer.status_code == 202
    async with asyncio.timeout(10):
        while True:
            job = (await admin.get(f"/api/v1/jobs/{answer.json()['job_id']}")).json()
            if job["state"] not in ("queued", "running"):
                return job
            await asyncio.sleep(0.05)


async def listed(client: httpx.AsyncClient) -> dict[str, dict[str, Any]]:
    answer = await client.get("/api/v1/models")
    assert answer.status_code == 200
    return {one["id"]: one for one in answer.json()["items"]}


async def test_everybody_sees_what_there_is_and_what_would_be_better(alice):
    answer = (await alice.get("/api/v1/models", params={"all_models": True})).json()
    (starter,) = [one for one in answer["items"] if one["id"] == f"embedded/{BUILT_IN}"]
    assert (starter["built_in"], starter["removable"]) == (True, False)
    assert answer["in_use"] in {one["id"] for one in answer["items"] if one["in_use"]}
    assert {"name", "licence", "download_bytes", "tokens_per_s", "why_not"} <= set(
        answer["recommended"][0]
    )


async def test_a_pull_without_a_yes_tells_licence_size_and_checksum(admin):
    answer = await admin.post("/api/v1/models/pull", json={"source": REPOSITORY})
    problem = answer.json()
    assert answer.status_code == 409
    assert problem["type"] == "urn:mongars:problem:license-not-accepted"
    assert (problem["license"], problem["size_bytes"]) == ("apache-2.0", 4096)
    assert len(problem["sha256"]) == 64
    assert problem["model"] == PULLED


async def test_a_model_is_pulled_by_a_job_chosen_kept_in_use_and_removed(admin, working):
    job = await pulled(admin)
    assert (job["state"], job["result"]["model"]) == ("done", PULLED)
    assert (await listed(admin))[PULLED]["verified"] is True

    chosen = await admin.post("/api/v1/models/use", json={"model": PULLED})
    assert chosen.json() == {"model": PULLED}
    here = (await listed(admin))[PULLED]
    assert (here["in_use"], here["digest"]) == (True, job["result"]["digest"])
    assert (await admin.delete(f"/api/v1/models/{PULLED}")).status_code == 409

    await admin.post("/api/v1/models/use", json={"model": "auto"})
    assert (await admin.delete(f"/api/v1/models/{PULLED}")).status_code == 204
    assert PULLED not in await listed(admin)
    assert (await admin.delete(f"/api/v1/models/{PULLED}")).status_code == 404


@pytest.mark.parametrize("source", ["", "file:///etc/passwd", "word"])
async def test_what_is_no_source_is_refused_at_once(admin, source):
    asked = {"source": source, "accept_license": True}
    assert (await admin.post("/api/v1/models/pull", json=asked)).status_code == 422


async def test_only_admins_change_models(alice):
    calls = [
        alice.post("/api/v1/models/pull", json={"source": REPOSITORY, "accept_license": True}),
        alice.post("/api/v1/models/use", json={"model": "auto"}),
        alice.delete(f"/api/v1/models/embedded/{BUILT_IN}"),
    ]
    assert [answer.status_code for answer in await asyncio.gather(*calls)] == [403, 403, 403]


async def test_the_built_in_model_stays(admin):
    answer = await admin.delete(f"/api/v1/models/embedded/{BUILT_IN}")
    assert answer.status_code == 409
