"""The tree of messages, on SQLite and PostgreSQL."""

import time
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from mongars import hippocampus
from mongars.database import Database
from mongars.errors import Conflict, Invalid, Missing
from mongars.hippocampus import Conversation, Message
from mongars.hippocampus.tables import messages
from mongars.ids import new_id

ANN, BEN = new_id(), new_id()
AT = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)


def said(
    conversation_id: str, text: str, parent_id: str | None = None, seconds: int = 0
) -> Message:
    return Message(
        id=new_id(),
        conversation_id=conversation_id,
        parent_id=parent_id,
        role="user",
        text=text,
        at=AT + timedelta(seconds=seconds),
    )


async def chain(database: Database, length: int) -> tuple[Conversation, list[Message]]:
    """A conversation of Ann's with one branch."""
    async with database.writing(ANN) as w:
        made = await hippocampus.create_conversation(w, ANN, title="A chain")
        added: list[Message] = []
        for number in range(length):
            parent = added[-1].id if added else None
            added.append(said(made.id, f"text {number}", parent, number))
        await hippocampus.add_messages(w, ANN, added)
    return made, added


async def test_what_is_added_is_given_back_exactly(database: Database) -> None:
    text = "  \r\n\tÀ\u0301 \u2028 ﬁ 👩‍👩‍👧 \ufeff trailing \n "
    async with database.writing(ANN) as w:
        made = await hippocampus.create_conversation(
            w, ANN, title=" t ", model="m", system_prompt="s\n", temperature=0.3, tags=("a", "b")
        )
        added = Message(
            new_id(), made.id, None, "assistant", text, AT, "failed", "m", "Ø", "e", {"k": [1]}
        )
        await hippocampus.add_message(w, ANN, added)
    async with database.reading(ANN) as r:
        assert await hippocampus.message(r, ANN, added.id) == added
        found = await hippocampus.conversation(r, ANN, made.id)
    assert (found.title, found.system_prompt, found.temperature) == (" t ", "s\n", 0.3)
    assert found.tags == ("a", "b")
    assert (found.active_leaf_id, found.updated_at) == (added.id, AT)


async def test_a_branch_goes_from_the_root_to_its_leaf_and_leaves_the_siblings_out(
    database: Database,
) -> None:
    made, added = await chain(database, 4)
    sibling = said(made.id, "another", added[1].id, 9)
    async with database.writing(ANN) as w:
        await hippocampus.add_message(w, ANN, sibling)
    async with database.reading(ANN) as r:
        other = await hippocampus.branch(r, ANN, made.id, sibling.id)
        first = await hippocampus.branch(r, ANN, made.id, added[3].id)
        last = await hippocampus.branch(r, ANN, made.id, added[3].id, last=2)
        siblings = await hippocampus.children(r, ANN, made.id, added[1].id)
        roots = await hippocampus.children(r, ANN, made.id, None)
    assert other == [*added[:2], sibling]
    assert first == added
    assert last == added[2:]
    assert siblings == [added[2], sibling]
    assert roots == added[:1]


async def test_a_branch_of_ten_thousand_messages_is_read_quickly(database: Database) -> None:
    made, added = await chain(database, 10_000)
    async with database.reading(ANN) as r:
        began = time.perf_counter()
        whole = await hippocampus.branch(r, ANN, made.id, added[-1].id)
        whole_s = time.perf_counter() - began
        began = time.perf_counter()
        end = await hippocampus.branch(r, ANN, made.id, added[-1].id, last=20)
        end_s = time.perf_counter() - began
    assert len(whole) == 10_000
    assert end == whole[-20:]
    print(f"branch {database.dialect}: 10,000 in {whole_s:.3f} s, last 20 in {end_s:.4f} s")
    assert whole_s < 5
    assert end_s < whole_s


async def test_a_parent_of_another_conversation_is_refused(database: Database) -> None:
    _, elsewhere = await chain(database, 1)
    made, _ = await chain(database, 1)
    with pytest.raises(Conflict):
        async with database.writing(ANN) as w:
            await hippocampus.add_message(w, ANN, said(made.id, "lost", elsewhere[0].id))
    with pytest.raises(Conflict):
        async with database.writing(ANN) as w:
            await hippocampus.add_message(w, ANN, said(made.id, "lost", new_id()))


async def test_an_active_leaf_is_a_message_of_the_conversation(database: Database) -> None:
    _, elsewhere = await chain(database, 1)
    made, added = await chain(database, 3)
    async with database.writing(ANN) as w:
        await hippocampus.set_active_leaf(w, ANN, made.id, added[1].id)
        with pytest.raises(Missing):
            await hippocampus.set_active_leaf(w, ANN, made.id, elsewhere[0].id)
    async with database.reading(ANN) as r:
        assert (await hippocampus.conversation(r, ANN, made.id)).active_leaf_id == added[1].id


async def test_closing_writes_what_the_message_came_to(database: Database) -> None:
    _, added = await chain(database, 1)
    async with database.writing(ANN) as w:
        await hippocampus.close_message(
            w, ANN, added[0].id, text="éa", state="stopped", model="m", details={"n": 1}
        )
    async with database.reading(ANN) as r:
        closed = await hippocampus.message(r, ANN, added[0].id)
    assert (closed.text, closed.state, closed.model) == ("éa", "stopped", "m")
    assert closed.details == {"n": 1}


async def test_a_models_title_never_replaces_a_persons(database: Database) -> None:
    async with database.writing(ANN) as w:
        made = await hippocampus.create_conversation(w, ANN)
        assert await hippocampus.set_title(w, ANN, made.id, "guessed", "model")
        assert await hippocampus.set_title(w, ANN, made.id, "guessed again", "model")
        assert await hippocampus.set_title(w, ANN, made.id, "mine", "person")
        assert not await hippocampus.set_title(w, ANN, made.id, "guessed", "model")
        assert (await hippocampus.conversation(w, ANN, made.id)).title == "mine"
        await hippocampus.set_title(w, ANN, made.id, None, "person")
        assert await hippocampus.set_title(w, ANN, made.id, "guessed", "model")
        with pytest.raises(Missing):
            await hippocampus.set_title(w, ANN, new_id(), "x", "model")


async def test_texts_that_could_not_be_given_back_are_refused(database: Database) -> None:
    made, added = await chain(database, 1)
    for text in ("a\x00b", "\ud800", "é\udfff"):
        async with database.writing(ANN) as w:
            with pytest.raises(Invalid):
                await hippocampus.add_message(w, ANN, said(made.id, text))
            with pytest.raises(Invalid):
                await hippocampus.close_message(
                    w, ANN, added[0].id, text=text, state="done", model=None, details=None
                )
            with pytest.raises(Invalid):
                await hippocampus.create_conversation(w, ANN, title=text)
            with pytest.raises(Invalid):
                await hippocampus.set_title(w, ANN, made.id, text, "person")


async def test_nothing_of_another_person_is_read_or_changed(database: Database) -> None:
    made, added = await chain(database, 2)
    async with database.writing(BEN) as w:
        with pytest.raises(Missing):
            await hippocampus.conversation(w, BEN, made.id)
        with pytest.raises(Missing):
            await hippocampus.message(w, BEN, added[0].id)
        with pytest.raises(Missing):
            await hippocampus.add_message(w, BEN, said(made.id, "x", added[1].id))
        with pytest.raises(Missing):
            await hippocampus.close_message(
                w, BEN, added[0].id, text="x", state="done", model=None, details=None
            )
        with pytest.raises(Missing):
            await hippocampus.set_active_leaf(w, BEN, made.id, added[0].id)
        with pytest.raises(Missing):
            await hippocampus.set_title(w, BEN, made.id, "x", "person")
        assert await hippocampus.branch(w, BEN, made.id, added[1].id) == []
        assert await hippocampus.children(w, BEN, made.id, added[0].id) == []
        assert await hippocampus.children(w, BEN, made.id, None) == []
    async with database.reading(ANN) as r:
        assert await hippocampus.branch(r, ANN, made.id, added[1].id) == added


async def test_postgresql_itself_hides_the_rows_of_others(database: Database) -> None:
    _, added = await chain(database, 2)
    everything = sa.select(sa.func.count()).select_from(messages)
    async with database.reading(ANN) as r:
        assert await r.scalar(everything) == 2
    if database.dialect == "postgresql":
        async with database.writing(BEN) as w:
            assert await w.scalar(everything) == 0
            changed = await w.execute(
                sa.update(messages).where(messages.c.id == added[0].id).values(text="x")
            )
            assert changed.rowcount == 0
