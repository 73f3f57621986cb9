"""A turn from words in to words out, on both databases."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from mongars.bus import Bus
from mongars.cortex import Cortex, CortexSettings, Key, LimitsSettings, Options, Said
from mongars.cortex.tables import turn_events, turns
from mongars.database import SYSTEM
from mongars.errors import Busy, Conflict, Invalid, Missing, Unavailable
from mongars.ids import now
from mongars.llm import ChatMessage, Finished, Started, Text
from tests.cortex.conftest import OWNER, Open, Stage, text_of, types


async def test_an_answer_is_told_stored_and_the_same(stage: Stage) -> None:
    turn, events = await stage.talk("one two three", client_id="mine")

    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert types(events)[:2] == ["queued", "started"]
    assert types(events)[-1] == "done"
    started, done = events[1].facts(), events[-1].facts()
    assert started["client_id"] == "mine"
    assert started["model"] == "scripted/twin"
    assert started["message_id"] == turn.message_id
    assert text_of(events) == done["message"]["text"] == "one two three"
    assert done["finish_reason"] == "stop"
    assert done["usage"]["completion_tokens"] == 3

    asked, answer = await stage.messages(turn)
    assert (asked.role, asked.text, asked.state) == ("user", "one two three", "done")
    assert (answer.role, answer.text, answer.state) == ("assistant", "one two three", "done")
    assert answer.id == done["message"]["id"] == turn.answer_id
    assert answer.model == "scripted/twin"
    assert (await stage.cortex.turn(OWNER, turn.id)).state == "done"


async def test_words_are_on_disk_before_the_model_is_asked(stage: Stage) -> None:
    stage.twin.away = True
    turn = await stage.say("keep me")
    assert stage.twin.requests == []
    assert (await stage.messages(turn))[0].text == "keep me"
    events = await stage.follow(turn)
    assert types(events)[-1] == "failed"
    assert (await stage.messages(turn))[0].text == "keep me"


async def test_a_failed_turn_keeps_what_had_come(stage: Stage) -> None:
    turn, events = await stage.talk("[[words 8]] [[fail 3]]")
    failed = events[-1].facts()
    assert failed["problem"]["status"] == 503
    assert failed["message"]["text"] == "word1 word2 word3"
    assert (await stage.messages(turn))[-1].text == "word1 word2 word3"
    assert (await stage.messages(turn))[-1].state == "failed"
    seen = await stage.cortex.turn(OWNER, turn.id)
    assert seen.state == "failed"
    assert seen.error is not None

    turn, events = await stage.talk("[[fail 0]]")
    assert events[-1].facts()["message"] is None


async def test_history_goes_along_word_for_word_and_nothing_else(stage: Stage) -> None:
    turn, _ = await stage.talk("first")
    await stage.talk("second", conversation_id=turn.conversation_id)
    sent = stage.twin.requests[-1].messages
    assert [(one.role, one.text) for one in sent[1:]] == [
        ("user", "first"),
        ("assistant", "first"),
        ("user", "second"),
    ]
    assert sent[0] == stage.twin.requests[0].messages[0]
    assert len(sent[0].text.encode()) <= 1024


async def test_thinking_is_told_beside_the_text(stage: Stage) -> None:
    turn, events = await stage.talk("[[think well hmm]] yes")
    assert "well hmm" in [e.facts()["text"] for e in events if e.type == "thinking"]
    answer = (await stage.messages(turn))[-1]
    assert answer.text == "yes"
    assert answer.details is not None
    assert answer.details["thinking"] == "well hmm"


async def test_what_is_told_is_on_disk(stage: Stage) -> None:
    turn = await stage.say("[[words 12]] [[delay 15ms]]")
    async with contextlib.aclosing(stage.cortex.listen(OWNER, turn.id)) as events:
        async for event in events:
            async with stage.database.reading(OWNER) as r:
                stored = await r.scalar(
                    sa.select(sa.func.max(turn_events.c.last_seq)).where(
                        turn_events.c.turn_id == turn.id
                    )
                )
            assert stored >= event.seq


async def test_many_listeners_see_the_same_and_resume_anywhere(stage: Stage) -> None:
    turn = await stage.say("[[words 20]] [[delay 5ms]]")
    live = await asyncio.gather(*(stage.follow(turn) for _ in range(5)))
    later = await stage.follow(turn)
    assert all(one == later for one in live)
    for after in range(len(later) + 2):
        assert await stage.follow(turn, after) == later[after:]


async def test_a_listener_that_leaves_stops_nothing(stage: Stage) -> None:
    turn = await stage.say("[[words 10]] [[delay 5ms]]")
    await stage.wait_for(turn, "delta")
    assert len(text_of(await stage.follow(turn)).split()) == 10


async def test_a_slow_listener_misses_nothing(stage: Stage) -> None:
    turn = await stage.say("[[words 2000]] [[delay 0ms]]")
    seen = []
    async with contextlib.aclosing(stage.cortex.listen(OWNER, turn.id)) as events:
        async for event in events:
            if len(seen) == 2:
                await stage.follow(turn)  # meanwhile everything happens
            seen.append(event)
    assert len(text_of(seen).split()) == 2000


class Forgetful(Bus):
    """Loses every second message, as a network may."""

    lost = 0

    def _deliver(self, topic: str, message: bytes) -> None:
        self.lost += 1
        if self.lost % 2:
            super()._deliver(topic, message)


async def test_news_that_got_lost_are_read_from_disk(open_stage: Open) -> None:
    bus = Forgetful(None)
    async with open_stage(bus=bus) as one, open_stage(bus=bus) as other:
        turn = await one.say("[[words 12]] [[delay 60ms]]")
        here, there = await asyncio.gather(one.follow(turn), other.follow(turn))
        assert bus.lost > 6
        assert here == there
        assert [event.seq for event in here] == list(range(1, len(here) + 1))
        assert len(text_of(here).split()) == 12


async def test_another_persons_turn_is_not_there(stage: Stage) -> None:
    turn = await stage.say("[[hold]] x")
    with pytest.raises(Missing):
        await stage.cortex.turn("somebody", turn.id)
    with pytest.raises(Missing):
        await stage.cortex.stop("somebody", turn.id)
    with pytest.raises(Missing):
        await anext(stage.cortex.listen("somebody", turn.id))
    with pytest.raises(Missing):
        await stage.say("hello", owner="somebody", conversation_id=turn.conversation_id)
    with pytest.raises(Missing):
        await stage.cortex.regenerate("somebody", turn.message_id)
    with pytest.raises(Missing):
        await stage.cortex.edit("somebody", turn.message_id, Said("x"))


async def test_stop_keeps_the_text_and_frees_the_model(stage: Stage) -> None:
    turn = await stage.say("[[hold]] one two")
    await stage.wait_for(turn, "delta")
    began = asyncio.get_running_loop().time()
    stopped = await stage.cortex.stop(OWNER, turn.id)
    assert asyncio.get_running_loop().time() - began < 0.5
    assert stage.twin.active == 0
    assert stopped.state == "stopped"
    events = await stage.follow(turn)
    done = events[-1].facts()
    assert done["finish_reason"] == "stopped"
    assert done["message"]["text"] == "one"
    answer = (await stage.messages(turn))[-1]
    assert (answer.text, answer.state) == ("one", "stopped")
    assert (await stage.cortex.stop(OWNER, turn.id)).state == "stopped"
    assert types(await stage.follow(turn)).count("done") == 1


async def test_one_answer_at_a_time_in_a_conversation(stage: Stage) -> None:
    turn = await stage.say("[[hold]] one")
    with pytest.raises(Conflict) as caught:
        await stage.say("two", conversation_id=turn.conversation_id)
    assert caught.value.problem == "turn-running"
    assert caught.value.extra["turn_id"] == turn.id
    await stage.cortex.stop(OWNER, turn.id)
    asked = [one.text for one in await stage.messages(turn) if one.role == "user"]
    assert asked == ["[[hold]] one"]


async def test_four_answers_at_a_time_for_a_person(stage: Stage) -> None:
    held = [await stage.say("[[hold]] x") for _ in range(4)]
    with pytest.raises(Busy) as caught:
        await stage.say("fifth")
    assert caught.value.retry_after_s
    await stage.talk("I am somebody else", owner="owner-2")
    for turn in held[:2]:  # the model's last seat is never one person's alone
        await stage.cortex.stop(OWNER, turn.id)
    await stage.talk("fifth")


async def test_messages_a_minute_are_counted_across_processes(open_stage: Open) -> None:
    limits = LimitsSettings(messages_per_minute=3)
    async with open_stage(limits=limits) as one, open_stage(limits=limits) as other:
        await one.talk("1")
        await other.talk("2")
        await one.cortex.admit(OWNER)
        for stage in (one, other):
            with pytest.raises(Busy) as caught:
                await stage.say("4")
            assert caught.value.retry_after_s is not None
            assert 50 < caught.value.retry_after_s <= 60
        await other.talk("1", owner="owner-2")


async def test_a_key_and_its_body_are_one_turn(stage: Stage) -> None:
    key = Key("k", "hash")
    first = await stage.say("[[words 5]] [[delay 10ms]]", key=key)
    again = await stage.say("[[words 5]] [[delay 10ms]]", key=key)
    assert again.id == first.id
    await stage.follow(first)
    assert (await stage.say("[[words 5]] [[delay 10ms]]", key=key)).id == first.id
    assert len(stage.twin.requests) == 1
    with pytest.raises(Invalid) as caught:
        await stage.say("another", key=Key("k", "other hash"))
    assert caught.value.problem == "idempotency-key-reused"
    assert (await stage.say("mine", owner="owner-2", key=key)).id != first.id


async def test_the_same_key_at_the_same_time_is_one_turn(open_stage: Open) -> None:
    async with open_stage() as one, open_stage() as other:
        key = Key("k", "hash")
        said = [stage.say("hello", key=key) for stage in (one, other) * 5]
        assert len({turn.id for turn in await asyncio.gather(*said)}) == 1


async def test_regenerate_answers_beside_the_old_answer(stage: Stage) -> None:
    turn, _ = await stage.talk("hello")
    again = await stage.cortex.regenerate(OWNER, turn.answer_id, options=Options(temperature=0.5))
    await stage.follow(again)
    assert again.message_id == turn.message_id
    assert again.answer_id != turn.answer_id
    assert [one.id for one in await stage.messages(again)] == [turn.message_id, again.answer_id]
    assert stage.twin.requests[1].messages == stage.twin.requests[0].messages
    assert stage.twin.requests[1].temperature == 0.5


async def test_continue_begins_with_the_old_text(stage: Stage) -> None:
    turn, _ = await stage.talk("[[words 9]] [[fail 2]]")
    stage.twin.script = stage.twin.script.__class__(say=" and so on")
    more = await stage.cortex.go_on(OWNER, turn.answer_id)
    events = await stage.follow(more)
    text = events[-1].facts()["message"]["text"]
    assert text.startswith("word1 word2")
    assert text != "word1 word2"
    assert text_of(events) == text == (await stage.messages(more))[-1].text
    sent = stage.twin.requests[-1].messages
    assert [one.role for one in sent] == ["system", "user", "assistant", "user"]
    assert sent[2].text == "word1 word2"
    old = (await _message(stage, turn.answer_id)).text
    assert old == "word1 word2"


async def test_edit_branches_and_keeps_the_old_branch(stage: Stage) -> None:
    turn, _ = await stage.talk("hello")
    edited = await stage.cortex.edit(OWNER, turn.message_id, Said("good bye"))
    await stage.follow(edited)
    assert [one.text for one in await stage.messages(edited)] == ["good bye", "good bye"]
    assert (await _message(stage, turn.answer_id)).text == "hello"
    with pytest.raises(Conflict):
        await stage.cortex.edit(OWNER, turn.answer_id, Said("mine now"))
    with pytest.raises(Conflict):
        await stage.cortex.go_on(OWNER, turn.message_id)


async def _message(stage: Stage, message_id: str):  # type: ignore[no-untyped-def]
    from mongars.hippocampus import message

    async with stage.database.reading(OWNER) as r:
        return await message(r, OWNER, message_id)


async def test_what_cannot_be_said_is_refused_and_leaves_nothing(stage: Stage) -> None:
    for text in ("", "  \n", "x" * 32_001):
        with pytest.raises(Invalid):
            await stage.say(text)
    stage.twin.context_tokens = 300
    stage.llm._backends.opened["scripted"].cards.clear()
    stage.twin.card = stage.twin.card.__class__("twin", "scripted", context_tokens=300)
    with pytest.raises(Invalid) as caught:
        await stage.say("word " * 700)
    assert caught.value.problem == "too-long-for-model"
    async with stage.database.reading(SYSTEM) as r:
        assert await r.scalar(sa.select(sa.func.count()).select_from(turns)) == 0


async def test_a_turn_is_a_conversation_with_models_too(stage: Stage) -> None:
    turn, _ = await stage.talk("hello")
    said = ChatMessage("user", "one two")
    answer = stage.cortex.answer_in(OWNER, turn.conversation_id, said, temperature=0.1)
    async with contextlib.aclosing(answer) as events:
        heard = [event async for event in events]
    assert isinstance(heard[0], Started)
    assert "".join(one.text for one in heard if isinstance(one, Text)) == "one two"
    assert isinstance(heard[-1], Finished)
    assert stage.twin.requests[-1].temperature == 0.1

    held = ChatMessage("user", "[[hold]] x")
    async with contextlib.aclosing(
        stage.cortex.answer_in(OWNER, turn.conversation_id, held)
    ) as events:
        async for event in events:
            if isinstance(event, Text):
                break
    assert stage.twin.active == 0

    away = ChatMessage("user", "[[fail 0]]")
    with pytest.raises(Unavailable):
        async for _ in stage.cortex.answer_in(OWNER, turn.conversation_id, away):
            pass


async def test_after_a_day_one_delta_and_the_end_remain(stage: Stage) -> None:
    turn, events = await stage.talk("[[words 30]] [[delay 5ms]]")
    await stage.cortex.sweep(now() + timedelta(hours=25))
    kept = await stage.follow(turn)
    assert types(kept) == ["delta", "done"]
    assert [event.seq for event in kept] == [1, 2]
    assert text_of(kept) == text_of(events)
    behind = await stage.follow(turn, after=3)
    assert types(behind) == ["done"]
    assert behind[0].seq == 4
    assert await stage.follow(turn, after=len(events)) == []


async def test_closing_begins_nothing_more_and_ends_streams(open_stage: Open) -> None:
    async with open_stage() as stage:
        turn = await stage.say("[[hold]] x")
        await stage.wait_for(turn, "delta")
        following = asyncio.create_task(stage.follow(turn))
        await stage.cortex.wind_down(grace_s=0.05)
        events = await asyncio.wait_for(following, 5)
        assert types(events)[-1] == "delta"
        with pytest.raises(Unavailable):
            await stage.say("more")


async def test_opening_asks_nobody(open_stage: Open, tmp_path: Path) -> None:
    async with open_stage(settings=CortexSettings()) as stage:
        assert isinstance(stage.cortex, Cortex)
        assert stage.twin.requests == []
