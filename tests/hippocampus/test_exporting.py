"""Giving everything out."""

import json
from datetime import timedelta

import pytest

from mongars.errors import Missing
from mongars.hippocampus import Filter
from mongars.ids import now
from tests.hippocampus.conftest import ANN, AT, BEN, World


async def read(world: World, job_id: str, owner_id: str = ANN) -> bytes:
    file, content = await world.organ.exported(owner_id, job_id)
    whole = b"".join([part async for part in content])
    assert len(whole) == file.bytes
    return whole


async def test_everything_of_a_person_goes_into_one_file_that_another_can_bring_in(
    world: World,
) -> None:
    for place in range(5):
        await world.talk("é" * 300_000, f"b {place}", title=f"{place}", archived=place == 3)
    gone, _ = await world.talk("gone")
    await world.organ.delete(ANN, gone.id)
    await world.organ.add_preset(ANN, "calm", model=None, system_prompt="s", temperature=None)
    await world.talk("his", owner_id=BEN)
    async with world.working():
        job_id = await world.organ.export_all(ANN)
        job = await world.ended(job_id)
    assert job.state == "done"
    assert job.result is not None
    assert job.result["conversations"] == 5
    assert job.result["path"] == f"/api/v1/me/exports/{job_id}"
    whole = await read(world, job_id)
    told = json.loads(whole)
    assert [one["title"] for one in told["conversations"]] == ["0", "1", "2", "3", "4"]
    assert b"his" not in whole
    with pytest.raises(Missing):
        await world.organ.exported(BEN, job_id)
    imported = await world.organ.bring_in(BEN, "mongars", told["conversations"], told["presets"])
    assert (imported.conversations, imported.messages, imported.skipped_count) == (5, 10, 0)
    assert [one.name for one in await world.organ.presets(BEN)] == ["calm"]
    listed = await world.organ.conversations(BEN, Filter(archived=True), None, 5)
    assert [one.title for one in listed.items] == ["3"]


async def test_the_file_of_an_export_goes_after_a_day(world: World) -> None:
    async with world.working():
        job_id = await world.organ.export_all(ANN)
        await world.ended(job_id)
    await world.organ.sweep(now() + timedelta(hours=23))
    assert json.loads(await read(world, job_id))["conversations"] == []
    await world.organ.sweep(now() + timedelta(hours=25))
    with pytest.raises(Missing):
        await world.organ.exported(ANN, job_id)


async def test_markdown_holds_the_branch_in_view_as_it_was_said(world: World) -> None:
    made, _ = await world.talk("one *two*\n", "three", title="A\ntitle")
    assert await world.organ.markdown(ANN, made.id) == (
        "# A title\n\n"
        "**user** · 2026-03-01T12:00:00.123Z\n\none *two*\n\n\n"
        "**assistant** · 2026-03-01T12:00:01.123Z\n\nthree\n"
    )
    assert AT.microsecond == 123456
    empty, _ = await world.talk()
    assert await world.organ.markdown(ANN, empty.id) == "# Conversation\n"
