"""Deleting and bringing back, copying, presets, and what happens by itself."""

from datetime import timedelta

import orjson
import pytest
import sqlalchemy as sa

from mongars import hippocampus
from mongars.database import SYSTEM, metadata
from mongars.errors import Conflict, Invalid, Missing
from mongars.hippocampus import Filter, Message, forget_person, person_topic
from mongars.hippocampus.tables import conversations, feedback, messages
from mongars.ids import new_id, now
from tests.hippocampus.conftest import ANN, AT, BEN, World, chain


async def count(world: World, table: sa.Table, owner_id: str = ANN) -> int:
    async with world.database.reading(SYSTEM) as r:
        statement = sa.select(sa.func.count()).select_from(table)
        return int(await r.scalar(statement.where(table.c.owner_id == owner_id)))


async def erase_at_once(world: World, conversation_id: str) -> None:
    """Do what the job of the deletion does, without the wait."""
    async with world.database.writing(ANN) as w:
        row = await w.one(
            sa.select(conversations.c.deleted_at).where(conversations.c.id == conversation_id)
        )
        assert row is not None
        payload = {"conversation_id": conversation_id, "hidden_at": row.deleted_at.isoformat()}
        job_id = await world.jobs.enqueue(w, "conversations.erase", payload, owner_id=ANN)
    assert (await world.ended(job_id)).state == "done"


async def test_a_deleted_conversation_is_hidden_at_once_everywhere(world: World) -> None:
    talk, said = await world.talk("secret words", title="t")
    await world.organ.delete(ANN, talk.id)
    for asking in (
        world.organ.conversation(ANN, talk.id),
        world.organ.messages(ANN, talk.id, limit=5),
        world.organ.message(ANN, said[0].id),
        world.organ.change(ANN, talk.id, {"pinned": True}),
        world.organ.fork(ANN, talk.id, said[0].id),
        world.organ.judge(ANN, said[0].id, 1, None, AT),
        world.organ.export(ANN, talk.id),
        world.organ.delete(ANN, talk.id),
    ):
        with pytest.raises(Missing):
            await asking
    assert (await world.organ.conversations(ANN, Filter(), None, 5)).items == []
    assert (await world.organ.search(ANN, "secret", None, 5)).items == []


async def test_a_deleted_conversation_comes_back_whole_while_there_is_time(world: World) -> None:
    talk, said = await world.talk("a", "b")
    await world.organ.delete(ANN, talk.id)
    with pytest.raises(Missing):
        await world.organ.restore(BEN, talk.id)
    assert await world.organ.restore(ANN, talk.id) == talk
    assert (await world.organ.messages(ANN, talk.id, limit=5)).items == said
    with pytest.raises(Missing):
        await world.organ.restore(ANN, talk.id)


async def test_a_conversation_deleted_longer_ago_does_not_come_back(world: World) -> None:
    talk, _ = await world.talk("a")
    await world.organ.delete(ANN, talk.id)
    long_ago = now() - timedelta(seconds=world.organ.settings.restore_s + 1)
    async with world.database.writing(ANN) as w:
        await w.execute(sa.update(conversations).values(deleted_at=long_ago))
    with pytest.raises(Missing):
        await world.organ.restore(ANN, talk.id)
    await world.organ.sweep(now())
    assert await count(world, conversations) == 0


async def test_the_job_of_a_deletion_waits_as_long_as_it_can_be_undone(world: World) -> None:
    talk, _ = await world.talk("a")
    await world.organ.delete(ANN, talk.id)
    table = metadata.tables["jobs"]
    async with world.database.reading(ANN) as r:
        row = await r.one(sa.select(table.c.created_at, table.c.run_after))
    assert row is not None
    assert abs((row.run_after - row.created_at).total_seconds() - 3600) < 5


async def test_erasing_takes_every_message_of_a_large_conversation_with_it(world: World) -> None:
    talk, said = await world.talk(*(f"text {place}" for place in range(5000)))
    await world.organ.judge(ANN, said[7].id, -1, "no", AT)
    await world.talk("kept")
    await world.organ.delete(ANN, talk.id)
    async with world.working():
        await erase_at_once(world, talk.id)
        with pytest.raises(AssertionError):
            await erase_at_once(world, talk.id)  # gone: a second run finds nothing
    assert await count(world, conversations) == 1
    assert await count(world, messages) == 1
    assert await count(world, feedback) == 0


async def test_what_was_brought_back_is_not_erased_by_the_job_of_its_deletion(world: World) -> None:
    talk, _ = await world.talk("a")
    await world.organ.delete(ANN, talk.id)
    async with world.database.reading(ANN) as r:
        hidden_at = await r.scalar(sa.select(conversations.c.deleted_at))
    await world.organ.restore(ANN, talk.id)
    await world.organ.delete(ANN, talk.id)  # and deleted again: a later job's work
    payload = {"conversation_id": talk.id, "hidden_at": hidden_at.isoformat()}
    async with world.working():
        async with world.database.writing(ANN) as w:
            job_id = await world.jobs.enqueue(w, "conversations.erase", payload, owner_id=ANN)
        await world.ended(job_id)
    assert await world.organ.restore(ANN, talk.id) == talk


async def test_temporary_conversations_go_after_a_day_of_silence(world: World) -> None:
    at = now()
    await world.talk("old", temporary=True, at=at - timedelta(hours=25))
    fresh, _ = await world.talk("fresh", temporary=True, at=at - timedelta(hours=23))
    lasting, _ = await world.talk("lasting", at=at - timedelta(days=900))
    await world.organ.sweep(at)
    async with world.database.reading(ANN) as r:
        left = await r.all(sa.select(conversations.c.id))
    assert {row.id for row in left} == {fresh.id, lasting.id}


async def test_a_fork_is_a_copy_of_the_branch_of_its_own(world: World) -> None:
    talk, said = await world.talk("a", "b", "c", title="t", model="m", tags=("x",))
    forked = await world.organ.fork(ANN, talk.id, said[1].id)
    copies = (await world.organ.messages(ANN, forked.id, limit=9)).items
    assert [(one.text, one.role, one.at) for one in copies] == [
        (one.text, one.role, one.at) for one in said[:2]
    ]
    assert {one.id for one in copies} & {one.id for one in said} == set()
    assert (forked.title, forked.model, forked.tags) == ("t", "m", ("x",))
    assert forked.active_leaf_id == copies[1].id
    for owner_id, message_id in ((ANN, new_id()), (BEN, said[0].id)):
        with pytest.raises(Missing):
            await world.organ.fork(owner_id, talk.id, message_id)


async def test_a_branch_that_is_still_being_written_is_not_forked(world: World) -> None:
    talk, said = await world.talk("a")
    writing = Message(new_id(), talk.id, said[0].id, "assistant", "", AT, state="writing")
    async with world.database.writing(ANN) as w:
        await hippocampus.add_message(w, ANN, writing)
    with pytest.raises(Conflict):
        await world.organ.fork(ANN, talk.id, writing.id)


async def test_the_newest_feedback_counts(world: World) -> None:
    _, said = await world.talk("a")
    await world.organ.judge(ANN, said[0].id, 1, "good", AT)
    await world.organ.judge(ANN, said[0].id, -1, None, AT)
    async with world.database.reading(ANN) as r:
        rows = await r.all(sa.select(feedback.c.value, feedback.c.text))
    assert [tuple(row) for row in rows] == [(-1, None)]
    with pytest.raises(Missing):
        await world.organ.judge(BEN, said[0].id, 1, None, AT)
    with pytest.raises(Invalid):
        await world.organ.judge(ANN, said[0].id, 1, "\x00", AT)


async def test_presets_are_ones_own_and_their_names_are_used_once(world: World) -> None:
    values = {"model": "m", "system_prompt": "s", "temperature": 0.5}
    made = await world.organ.add_preset(ANN, "calm", **values)
    other = await world.organ.add_preset(ANN, "able", **values)
    assert await world.organ.presets(ANN) == [other, made]
    assert await world.organ.presets(BEN) == []
    with pytest.raises(Conflict):
        await world.organ.add_preset(ANN, "calm", **values)
    with pytest.raises(Conflict):
        await world.organ.change_preset(ANN, other.id, {"name": "calm"})
    with pytest.raises(Missing):
        await world.organ.change_preset(BEN, made.id, {"name": "x"})
    with pytest.raises(Missing):
        await world.organ.remove_preset(BEN, made.id)
    changed = await world.organ.change_preset(ANN, made.id, {"temperature": None})
    assert (changed.name, changed.temperature) == ("calm", None)
    await world.organ.remove_preset(ANN, other.id)
    assert await world.organ.presets(ANN) == [changed]


async def test_a_persons_devices_are_told_what_changed_and_nobody_elses(world: World) -> None:
    async with (
        world.bus.subscribe(person_topic(ANN)) as hers,
        world.bus.subscribe(person_topic(BEN)) as his,
    ):
        begun = await world.organ.begin(ANN)
        told = await hers.get(5)
        await world.organ.delete(ANN, begun.id)
        assert told is not None
        assert orjson.loads(told) == {"changed": {"what": "conversation", "id": begun.id}}
        assert await hers.get(5) == told
        with pytest.raises(Missing):
            await world.organ.delete(ANN, begun.id)
        assert await hers.get(0.05) is None  # what did not happen is not told
        assert await his.get(0.05) is None


async def test_forgetting_a_person_takes_everything_of_theirs_and_nothing_elses(
    world: World,
) -> None:
    for owner_id in (ANN, BEN):
        _, said = await world.talk("a", owner_id=owner_id)
        await world.organ.judge(owner_id, said[0].id, 1, None, AT)
        await world.organ.add_preset(
            owner_id, "p", model=None, system_prompt=None, temperature=None
        )
        await world.organ.take_file(owner_id, "f.json", _pieces(b"x" * 10))
    async with world.database.writing(SYSTEM) as w:
        await forget_person(w, ANN)
    for name in ("conversations", "messages", "feedback", "presets", "files", "file_parts"):
        assert await count(world, metadata.tables[name], ANN) == 0, name
        assert await count(world, metadata.tables[name], BEN) == 1, name


async def _pieces(*pieces: bytes):  # type: ignore[no-untyped-def]
    for piece in pieces:
        yield piece


async def test_a_message_beside_others_keeps_its_branch_in_view(world: World) -> None:
    talk, said = await world.talk("a", "b")
    other = chain(talk.id, "b2", after=said[0].id)
    async with world.database.writing(ANN) as w:
        await hippocampus.add_messages(w, ANN, other)
    assert (await world.organ.messages(ANN, talk.id, limit=9)).items == [said[0], *other]
    await world.organ.change(ANN, talk.id, {"active_leaf_id": said[1].id, "title": "x"})
    assert (await world.organ.messages(ANN, talk.id, limit=9)).items == said
