"""Bringing conversations in, and giving them out."""

import asyncio
import io
import json
import zipfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mongars import hippocampus
from mongars.database import Database, metadata
from mongars.errors import Missing, NotBuilt, TooLarge
from mongars.hippocampus import Filter, Hippocampus, HippocampusSettings, Imported
from mongars.ids import new_id
from tests.hippocampus.conftest import ANN, AT, BEN, World, chain

TALK: dict[str, Any] = {
    "title": "  A walk ",
    "messages": [
        {"role": "user", "text": " hello\r\n", "at": "2026-01-02T03:04:05.123456+02:00"},
        {"role": "assistant", "text": "hi", "at": "2026-01-02T01:05:00Z", "speaker": "Bo"},
        {"role": "user", "text": "", "at": "2026-01-02T01:06:00"},
    ],
}


def talk(**changed: Any) -> dict[str, Any]:
    return {**TALK, **changed}


def message(**changed: Any) -> dict[str, Any]:
    return {"role": "user", "text": "x", "at": "2026-01-02T01:05:00Z", **changed}


def counts(imported: Imported) -> tuple[int, int, int]:
    return imported.conversations, imported.messages, imported.skipped_count


async def brought(world: World, *entries: Any, owner_id: str = ANN) -> Imported:
    return await world.organ.bring_in(owner_id, "mongars", list(entries))


async def everything(world: World, owner_id: str = ANN) -> list[Any]:
    """All conversations as they are exported."""
    part = await world.organ.conversations(owner_id, Filter(archived=None), None, 200)
    found = []
    for one in part.items:
        found += json.loads(await world.organ.export(owner_id, one.id))["conversations"]
    return found


async def test_what_is_brought_in_is_there_exactly_as_it_was(world: World) -> None:
    assert counts(await brought(world, TALK)) == (1, 3, 0)
    listed = (await world.organ.conversations(ANN, Filter(), None, 5)).items
    assert [one.title for one in listed] == ["  A walk "]
    said = (await world.organ.messages(ANN, listed[0].id, limit=9)).items
    assert [(one.role, one.text, one.speaker) for one in said] == [
        ("user", " hello\r\n", None),
        ("assistant", "hi", "Bo"),
        ("user", "", None),
    ]
    assert said[0].at == datetime(2026, 1, 2, 1, 4, 5, 123456, tzinfo=UTC)
    assert said[2].at == datetime(2026, 1, 2, 1, 6, tzinfo=UTC)  # without zone it is UTC
    assert [one.parent_id for one in said] == [None, said[0].id, said[1].id]


async def test_the_same_conversation_comes_in_once(world: World) -> None:
    named = talk(external_id="n", messages=[message(external_id="D1:1")])
    other = talk(title="Other", messages=[message(external_id="D1:1", text="y")])
    assert counts(await brought(world, TALK, named, other)) == (3, 5, 0)
    again = await brought(world, TALK, named, other, TALK)
    assert counts(again) == (0, 0, 4)
    assert {one["why"] for one in again.skipped} == {"is here already"}
    assert [one["index"] for one in again.skipped] == [0, 1, 2, 3]
    assert counts(await brought(world, TALK, owner_id=BEN)) == (1, 3, 0)


async def test_two_imports_of_the_same_at_the_same_time_bring_it_in_once(world: World) -> None:
    both = await asyncio.gather(brought(world, TALK), brought(world, TALK))
    assert sorted(counts(one) for one in both) == [(0, 0, 1), (1, 3, 0)]
    assert len(await everything(world)) == 1


async def test_a_conversation_that_grew_meanwhile_grows_here(world: World) -> None:
    first = talk(external_id="n", messages=[message(external_id="1")])
    grown = talk(
        external_id="n", messages=[message(external_id="1"), message(external_id="2", text="new")]
    )
    await brought(world, first)
    assert counts(await brought(world, grown)) == (0, 1, 0)
    assert counts(await brought(world, grown)) == (0, 0, 1)
    listed = (await world.organ.conversations(ANN, Filter(), None, 5)).items
    said = (await world.organ.messages(ANN, listed[0].id, limit=9)).items
    assert [one.text for one in said] == ["x", "new"]


async def test_what_was_deleted_a_moment_ago_can_be_brought_in_again(world: World) -> None:
    await brought(world, TALK)
    listed = (await world.organ.conversations(ANN, Filter(), None, 5)).items
    await world.organ.delete(ANN, listed[0].id)
    assert counts(await brought(world, TALK)) == (1, 3, 0)
    with pytest.raises(Missing):
        await world.organ.restore(ANN, listed[0].id)


BAD: list[tuple[Any, str]] = [
    (None, "conversation"),
    ([], "conversation"),
    ({"title": "x"}, "messages"),
    (talk(title=3), "title"),
    (talk(unknown=1), "unknown"),
    (talk(messages=[message(), message(role="robot")]), "messages.1.role"),
    (talk(messages=[message(), message(text=None)]), "messages.1.text"),
    (talk(messages=[message(), {"role": "user", "text": "x"}]), "messages.1.at"),
    (talk(messages=[message(at="yesterday")]), "messages.0.at"),
    (talk(messages=[message(at="0001-01-01T00:00:00+14:00")]), "messages.0.at"),
    (talk(messages=[message(text="\x00")]), "messages.0.text"),
    (talk(messages=[message(text="\ud800")]), "messages.0.text"),
    (talk(messages=[message(details={"x": "\ud800"})]), "details"),
    (talk(messages=[message(parent="nobody")]), "messages.0.parent"),
    (talk(messages=[message(external_id="1"), message(external_id="1")]), "messages.1.external_id"),
    (talk(active_leaf="nobody"), "active_leaf"),
    (talk(temperature=float("nan")), "temperature"),
]


async def test_bad_entries_are_left_out_whole_with_a_reason_and_the_others_come_in(
    world: World,
) -> None:
    imported = await brought(world, *(entry for entry, _ in BAD), TALK)
    assert counts(imported) == (1, 3, len(BAD))
    for place, (_, where) in enumerate(BAD):
        assert imported.skipped[place]["index"] == place
        assert where in imported.skipped[place]["why"]
    assert len(await everything(world)) == 1


async def test_formats_that_are_not_built_say_so(world: World) -> None:
    for form in ("chatgpt", "openwebui"):
        with pytest.raises(NotBuilt):
            await world.organ.bring_in(ANN, form, [])
        with pytest.raises(NotBuilt):
            await world.organ.import_file(ANN, form, "x")


async def test_an_exported_tree_comes_back_as_it_was_at_another_persons(world: World) -> None:
    made, said = await world.talk(
        "a", "b", "c", title="t", model="m", system_prompt="s", temperature=0.5, tags=("x",)
    )
    other = chain(made.id, "b2", "c2", after=said[0].id, at=AT + timedelta(hours=1))
    async with world.database.writing(ANN) as w:
        await hippocampus.add_messages(w, ANN, other)
        await hippocampus.close_message(
            w, ANN, said[1].id, text="b", state="stopped", model="m", details={"usage": {"n": 1}}
        )
    await world.organ.judge(ANN, said[1].id, -1, "no", AT)
    await world.organ.change(ANN, made.id, {"active_leaf_id": said[2].id, "pinned": True})
    before = await everything(world)
    assert counts(await brought(world, *before)) == (0, 0, 1)  # it is here already
    assert counts(await brought(world, *before, owner_id=BEN)) == (1, 5, 0)
    assert await everything(world, BEN) == before
    listed = (await world.organ.conversations(BEN, Filter(), None, 5)).items
    shown = (await world.organ.messages(BEN, listed[0].id, limit=9)).items
    assert [one.text for one in shown] == ["a", "b", "c"]


@pytest.fixture
async def plain(tmp_path: Any) -> AsyncIterator[World]:
    """SQLite alone, for many examples."""
    from mongars.bus import Bus
    from mongars.database import DatabaseSettings, migrate
    from mongars.jobs import Jobs, JobsSettings

    async with Database.open(DatabaseSettings(), tmp_path) as database, Bus.open(None) as bus:
        await migrate.upgrade(database)
        jobs = Jobs(database, bus, JobsSettings())
        organ = Hippocampus(database, jobs, bus, tmp_path, HippocampusSettings())
        yield World(database, bus, jobs, organ)


TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]))
MOMENT = st.integers(-2_000_000_000_000_000, 7_000_000_000_000_000).map(
    lambda microseconds: (AT + timedelta(microseconds=microseconds)).isoformat()
)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system"]), "text": TEXT, "at": MOMENT},
    optional={"speaker": TEXT},
)
CONVERSATION = st.fixed_dictionaries(
    {"title": st.none() | TEXT, "messages": st.lists(MESSAGE, max_size=4)}
)


def essence(entry: dict[str, Any]) -> Any:
    said = [
        (one["role"], one["text"], datetime.fromisoformat(one["at"]), one.get("speaker"))
        for one in entry["messages"]
    ]
    return entry.get("title"), said


@given(st.lists(CONVERSATION, max_size=3, unique_by=lambda entry: repr(essence(entry))))
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
async def test_linear_conversations_come_in_and_go_out_without_loss(
    plain: World, entries: list[Any]
) -> None:
    owner_id, other_id = new_id(), new_id()
    wanted = sorted(map(essence, entries), key=repr)
    await brought(plain, *entries, owner_id=owner_id)
    exported = await everything(plain, owner_id)
    assert sorted(map(essence, exported), key=repr) == wanted
    await brought(plain, *exported, owner_id=other_id)
    assert await everything(plain, other_id) == exported


async def pieces(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), 700_000):
        yield content[start : start + 700_000]


async def import_file(world: World, content: bytes) -> Any:
    file_id = await world.organ.take_file(ANN, "talks.json", pieces(content))
    async with world.working():
        return await world.ended(await world.organ.import_file(ANN, "mongars", file_id))


def many(number: int) -> list[dict[str, Any]]:
    return [
        talk(title=f"talk {place}", messages=[message(text=f"{place} " + "words " * 200)] * 4)
        for place in range(number)
    ]


async def test_a_large_file_comes_in_as_a_job_with_progress(world: World) -> None:
    content = json.dumps({"format": "mongars", "conversations": [*many(600), {}]}).encode()
    assert len(content) > 2 * 1024 * 1024
    job = await import_file(world, content)
    assert job.state == "done"
    assert job.result["imported"] == {"conversations": 600, "messages": 2400}
    assert [one["index"] for one in job.result["skipped"]] == [600]
    assert (job.done, job.total, job.unit) == (len(content), len(content), "bytes")
    again = await import_file(world, content)
    assert again.result["imported"] == {"conversations": 0, "messages": 0}
    assert again.result["skipped_count"] == 601
    assert len(again.result["skipped"]) == 100


async def test_a_zip_file_comes_in(world: World) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("conversations.json", json.dumps(many(3)))
    job = await import_file(world, out.getvalue())
    assert job.result["imported"] == {"conversations": 3, "messages": 12}


async def test_a_file_that_breaks_off_brings_in_what_is_whole_and_says_so(world: World) -> None:
    content = json.dumps(many(3)).encode()
    job = await import_file(world, content[:-20])
    assert job.state == "done"
    assert job.result["imported"] == {"conversations": 2, "messages": 8}
    assert job.result["skipped"][0]["index"] == 2
    assert "not JSON" in job.result["skipped"][0]["why"]
    nothing = await import_file(world, b"nonsense")
    assert nothing.state == "failed"
    assert nothing.error["type"] == "urn:mongars:problem:invalid"


async def test_a_file_that_is_too_large_or_breaks_off_leaves_nothing(
    database: Database, world: World, tmp_path: Any
) -> None:
    small = Hippocampus(
        database, world.jobs, world.bus, tmp_path, HippocampusSettings(import_bytes=1000)
    )
    with pytest.raises(TooLarge):
        await small.take_file(ANN, "x", pieces(b"x" * 1001))

    async def breaking() -> AsyncIterator[bytes]:
        yield b"x" * 2_000_000
        raise EOFError

    with pytest.raises(EOFError):
        await world.organ.take_file(ANN, "x", breaking())
    async with database.reading(ANN) as r:
        for table in ("files", "file_parts"):
            assert (await r.all(metadata.tables[table].select())) == []
