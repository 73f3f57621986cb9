"""Lists, their parts, and what is found."""

import time
from datetime import timedelta

import pytest
import sqlalchemy as sa

from mongars import hippocampus
from mongars.errors import Invalid, Missing
from mongars.hippocampus import Conversation, Filter, Part
from mongars.hippocampus.store import conversation_row, message_row
from mongars.hippocampus.tables import conversations, messages
from mongars.ids import new_id
from tests.hippocampus.conftest import ANN, AT, BEN, World, chain


async def every(world: World, wanted: Filter, limit: int) -> list[Conversation]:
    found: list[Conversation] = []
    cursor: str | None = None
    while True:
        part = await world.organ.conversations(ANN, wanted, cursor, limit)
        found += part.items
        cursor = part.next
        if cursor is None:
            return found
        assert len(part.items) == limit


async def test_pinned_conversations_come_first_then_the_newest_and_no_part_loses_one(
    world: World,
) -> None:
    made = []
    for place in range(7):
        at = AT + timedelta(minutes=place // 2)  # some at the same moment
        made.append((await world.talk("x", at=at, pinned=place in (1, 4)))[0])
    await world.talk("hers", owner_id=BEN)
    wanted = sorted(made, key=lambda one: (one.pinned, one.updated_at, one.id), reverse=True)
    for limit in (1, 2, 3, 50):
        assert await every(world, Filter(), limit) == wanted


async def test_only_what_was_asked_for_is_listed(world: World) -> None:
    plain, _ = await world.talk("a", tags=("x", 'q"uote', ","))
    pinned, _ = await world.talk("b", pinned=True)
    archived, _ = await world.talk("c", archived=True)
    temporary, _ = await world.talk("d", temporary=True)

    async def ids(**wanted: object) -> set[str]:
        part = await world.organ.conversations(ANN, Filter(**wanted), None, 50)  # type: ignore[arg-type]
        return {one.id for one in part.items}

    assert await ids() == {plain.id, pinned.id}
    assert await ids(archived=True) == {archived.id}
    assert await ids(temporary=True) == {temporary.id}
    assert await ids(pinned=False) == {plain.id}
    assert await ids(archived=None, temporary=None) == {
        plain.id,
        pinned.id,
        archived.id,
        temporary.id,
    }
    for tag in ("x", 'q"uote', ","):
        assert await ids(tag=tag) == {plain.id}
    for tag in ("X", "%", "quote", ""):
        assert await ids(tag=tag) == set()


async def test_a_cursor_that_was_never_given_is_refused(world: World) -> None:
    for cursor in ("", "x", "!", "WzFd", "bnVsbA", "W3RydWUsIngiLCJ5Il0"):
        with pytest.raises(Invalid):
            await world.organ.conversations(ANN, Filter(), cursor, 5)


async def test_the_branch_in_view_is_told_in_parts_from_its_root(world: World) -> None:
    talk, said = await world.talk("a", "b", "c", "d", "e")
    sibling = chain(talk.id, "other", after=said[1].id)
    async with world.database.writing(ANN) as w:
        await hippocampus.add_messages(w, ANN, sibling)
        await hippocampus.set_active_leaf(w, ANN, talk.id, said[-1].id)
    first = await world.organ.messages(ANN, talk.id, limit=2)
    second = await world.organ.messages(ANN, talk.id, limit=2, cursor=first.next)
    third = await world.organ.messages(ANN, talk.id, limit=2, cursor=second.next)
    assert [*first.items, *second.items, *third.items] == said
    assert third.next is None
    with pytest.raises(Missing):
        await world.organ.messages(ANN, talk.id, limit=2, cursor=new_id())


async def test_the_branch_is_told_backwards_from_a_message(world: World) -> None:
    talk, said = await world.talk("a", "b", "c", "d", "e")
    part = await world.organ.messages(ANN, talk.id, before=said[4].id, limit=2)
    assert part == Part(said[2:4], said[2].id)
    part = await world.organ.messages(ANN, talk.id, before=part.next, limit=2)
    assert part == Part(said[:2], None)
    assert await world.organ.messages(ANN, talk.id, before=said[0].id, limit=2) == Part([], None)
    _, others = await world.talk("x")
    for tree in (False, True):
        with pytest.raises(Missing):
            await world.organ.messages(ANN, talk.id, before=others[0].id, limit=2, tree=tree)


async def test_the_tree_holds_every_branch_parents_first(world: World) -> None:
    talk, said = await world.talk("a", "b", "c")
    sibling = chain(talk.id, "other", after=said[0].id)
    async with world.database.writing(ANN) as w:
        await hippocampus.add_messages(w, ANN, sibling)
    everything = [*said, *sibling]
    first = await world.organ.messages(ANN, talk.id, tree=True, limit=3)
    rest = await world.organ.messages(ANN, talk.id, tree=True, limit=3, cursor=first.next)
    assert [*first.items, *rest.items] == everything
    part = await world.organ.messages(ANN, talk.id, tree=True, before=sibling[0].id, limit=2)
    assert part == Part(said[1:], said[1].id)


async def test_history_goes_back_in_time_through_one_conversation_or_all(world: World) -> None:
    talk, said = await world.talk("a", "b", "c")
    _, older = await world.talk("old", at=AT - timedelta(days=400))
    gone, _ = await world.talk("gone")
    await world.organ.delete(ANN, gone.id)
    await world.talk("hers", owner_id=BEN)
    wanted = [*reversed(said), *older]
    first = await world.organ.history(ANN, None, None, 2)
    rest = await world.organ.history(ANN, None, first.next, 2)
    assert [*first.items, *rest.items] == wanted
    assert rest.next is None
    assert (await world.organ.history(ANN, talk.id, None, 9)).items == list(reversed(said))
    for missing in (gone.id, new_id()):
        with pytest.raises(Missing):
            await world.organ.history(ANN, missing, None, 9)
    with pytest.raises(Missing):
        await world.organ.history(BEN, None, said[0].id, 9)


async def test_words_are_found_whatever_their_case_and_accents(world: World) -> None:
    talk, said = await world.talk("Un CAFÉ noir", "with milk?", "café au lait")
    titled, _ = await world.talk("x", title="Le Café du coin", at=AT + timedelta(days=1))
    await world.talk("café", temporary=True)
    await world.talk("café", owner_id=BEN)
    gone, _ = await world.talk("café")
    await world.organ.delete(ANN, gone.id)
    found = await world.organ.search(ANN, " cafe ", None, 10)
    assert [(hit.conversation.id, hit.message_id) for hit in found.items] == [
        (titled.id, None),
        (talk.id, said[2].id),
    ]
    assert [hit.snippet for hit in found.items] == ["Le Café du coin", "café au lait"]
    first = await world.organ.search(ANN, "CAFE", None, 1)
    rest = await world.organ.search(ANN, "CAFE", first.next, 1)
    assert [*first.items, *rest.items] == found.items
    assert rest.next is None


async def test_wildcards_stand_for_themselves(world: World) -> None:
    await world.talk("100% of a_b \\ c")
    await world.talk("1000 of aXb")
    found = {}
    for words in ("100%", "a_b", "%", "_", "\\", "''", "of"):
        found[words] = len((await world.organ.search(ANN, words, None, 10)).items)
    assert found == {"100%": 1, "a_b": 1, "%": 1, "_": 1, "\\": 1, "''": 0, "of": 2}


async def test_nothing_is_found_for_nothing(world: World) -> None:
    await world.talk("x")
    assert await world.organ.search(ANN, " \u0301 ", None, 10) == Part([], None)


@pytest.mark.slow
async def test_ten_thousand_conversations_are_listed_and_searched_quickly(world: World) -> None:
    talk, said = await world.talk("first")
    rows, words = [], []
    for place in range(10_000):
        at = AT + timedelta(seconds=place)
        made = Conversation(
            **{**vars(talk), "id": new_id(), "updated_at": at, "active_leaf_id": None}
        )
        rows.append(conversation_row(made))
        words.append(message_row(ANN, chain(made.id, f"{place} " + "words " * 50, at=at)[0]))
    async with world.database.writing(ANN) as w:
        await w.execute(sa.insert(conversations), rows)
        await w.execute(sa.insert(messages), words)
    cursor = (await world.organ.conversations(ANN, Filter(), None, 200)).next
    took = {}
    for name, ask in (
        ("list", lambda: world.organ.conversations(ANN, Filter(), cursor, 50)),
        ("tag", lambda: world.organ.conversations(ANN, Filter(tag="none"), None, 50)),
        ("history", lambda: world.organ.history(ANN, None, said[0].id, 50)),
        ("search", lambda: world.organ.search(ANN, "nowhere to be found", None, 20)),
    ):
        began = time.perf_counter()
        await ask()
        took[name] = round(time.perf_counter() - began, 4)
    print(world.database.dialect, took)
    assert took["list"] < 0.3
    assert took["history"] < 0.3
    assert took["search"] < 3
