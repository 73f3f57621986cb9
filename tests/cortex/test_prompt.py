"""The prompt keeps its beginning, and is cut in whole pairs when it must be."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from mongars.cortex.prompt import (
    GO_ON,
    KEEP,
    PER_CHARACTER,
    SYSTEM_PROMPT,
    Fitting,
    Noted,
    lay_out,
    trim,
)
from mongars.errors import Invalid, Unavailable
from mongars.hippocampus import Message
from mongars.ids import now
from mongars.llm import ChatMessage
from tests.cortex.conftest import Open, text_of, types


def said(number: int, text: str, role: str = "user", state: str = "done") -> Message:
    return Message(f"m{number}", "c", f"m{number - 1}", role, text, now(), state)  # type: ignore[arg-type]


def dialogue(pairs: int, words: int = 50) -> list[Message]:
    messages = []
    for n in range(pairs):
        messages.append(said(2 * n, f"question {n} " + "word " * words))
        messages.append(said(2 * n + 1, f"answer {n} " + "word " * words, "assistant"))
    return [*messages, said(2 * pairs, "the last question")]


class Counter:
    """Counts words; knows one context."""

    def __init__(self, context: int | None, counts: bool = True) -> None:
        self.context = context
        self.counts = counts
        self.asked = 0

    async def context_tokens(self, model: str | None) -> int | None:
        return self.context

    async def count(self, messages: Sequence[ChatMessage], model: str | None) -> int | None:
        self.asked += 1
        if not self.counts:
            raise Unavailable("away")
        return sum(len(one.text.split()) for one in messages)


def test_the_default_system_part_says_who_it_is_and_is_short() -> None:
    assert "monGARS" in SYSTEM_PROMPT
    assert len(SYSTEM_PROMPT.encode()) <= 1024
    prompt = lay_out(None, [said(0, "hi")], None)
    assert [one.text for one in prompt.messages] == [SYSTEM_PROMPT, "hi"]


def test_a_prompt_is_the_beginning_of_the_next_one() -> None:
    talk = dialogue(4)
    for n in range(1, len(talk), 2):
        before = lay_out("be kind", talk[:n], None).messages
        after = lay_out("be kind", talk[: n + 2], None).messages
        assert after[: len(before)] == before


def test_an_answer_that_never_came_leaves_no_gap_between_roles() -> None:
    talk = [said(0, "one"), said(1, "", "assistant", "failed"), said(2, "two")]
    messages = lay_out(None, talk, None).messages
    assert [one.role for one in messages] == ["system", "user"]
    assert messages[1].text == "one\n\ntwo"


def test_going_on_hands_the_beginning_over() -> None:
    messages = lay_out(None, [said(0, "tell me")], None, partial="Once upon").messages
    assert [one.text for one in messages][1:] == ["tell me", "Once upon", GO_ON]


def test_trimming_drops_whole_pairs_and_keeps_the_ends() -> None:
    talk = dialogue(20)
    prompt = lay_out(None, talk, None)
    tokens = sum(len(one.text.split()) for one in prompt.messages)
    limit = tokens - 50
    cut = trim(prompt, tokens, limit)
    assert cut.trimmed
    assert cut.messages[0].text == SYSTEM_PROMPT
    assert cut.messages[1].role == "user"
    assert cut.messages[-1].text == "the last question"
    kept = sum(len(one.text.split()) for one in cut.messages)
    assert 0.4 * limit < kept <= (KEEP + 0.02) * limit
    assert cut.first_id == next(one.id for one in talk if one.text == cut.messages[1].text)


def test_the_place_of_the_cut_is_kept_so_that_the_beginning_stays() -> None:
    talk = dialogue(20)
    cut = trim(lay_out(None, talk, None), 2200, 2000)
    longer = [*talk, said(41, "its answer", "assistant"), said(42, "one more")]
    following = lay_out(None, longer, cut.first_id)
    assert following.messages[: len(cut.messages)] == cut.messages


def test_a_last_message_that_is_too_long_alone_is_refused() -> None:
    talk = [*dialogue(2)[:-1], said(9, "word " * 5000)]
    with pytest.raises(Invalid) as caught:
        trim(lay_out(None, talk, None), 5300, 2000)
    assert caught.value.problem == "too-long-for-model"


async def test_what_surely_fits_is_not_counted() -> None:
    counter = Counter(100_000)
    prompt = lay_out(None, dialogue(10), None)
    assert await Fitting(counter, 1024).fit(prompt, Noted(), None) == prompt
    assert counter.asked == 0


async def test_what_a_turn_measured_saves_counting() -> None:
    counter = Counter(2000)
    prompt = lay_out(None, dialogue(10), None)
    noted = Noted(None, 5000, 1000)
    assert await Fitting(counter, 500).fit(prompt, noted, None) == prompt
    assert counter.asked == 0


@pytest.mark.parametrize("counts", [True, False])
async def test_what_does_not_fit_is_cut(counts: bool) -> None:
    fitting = Fitting(Counter(600, counts), 100)
    cut = await fitting.fit(lay_out(None, dialogue(12), None), Noted(), None)
    assert cut.trimmed
    assert cut.messages[-1].text == "the last question"


def test_a_guess_is_generous() -> None:
    assert PER_CHARACTER >= 0.3
    assert Noted(None, 1000, 250).per_character == 0.25
    assert Noted(None, 10, 9).per_character == PER_CHARACTER
    assert Noted.of(None) == Noted()
    assert Noted.of({"prompt": Noted("m", 5, 2).facts()}) == Noted("m", 5, 2)


async def test_a_long_conversation_goes_on_with_a_notice_and_a_steady_beginning(
    open_stage: Open,
) -> None:
    async with open_stage() as stage:
        stage.twin.context_tokens = 400
        stage.twin.card = ChatCard(400)
        stage.llm._backends.opened["scripted"].cards.clear()
        turn, _ = await stage.talk("first " + "word " * 40)
        notices = 0
        began: list[str] = []
        for n in range(12):
            _, events = await stage.talk(
                f"number {n} " + "word " * 30, conversation_id=turn.conversation_id
            )
            assert types(events)[-1] == "done"
            assert text_of(events)
            notices += types(events).count("notice")
            began.append(stage.twin.requests[-1].messages[1].text)
        assert 1 <= notices <= 4
        assert len(set(began)) == notices + 1


async def test_a_model_that_finds_it_too_long_gets_less(open_stage: Open) -> None:
    async with open_stage() as stage:
        turn, _ = await stage.talk("word " * 100)
        for n in range(3):
            await stage.talk(f"{n} " + "word " * 100, conversation_id=turn.conversation_id)
        stage.twin.context_tokens = 500  # and its card still says another number
        _, events = await stage.talk("short", conversation_id=turn.conversation_id)
        assert types(events)[-1] == "done"
        assert types(events).count("notice") == 1


def ChatCard(context: int):  # type: ignore[no-untyped-def]
    from mongars.llm import ModelCard

    return ModelCard("twin", "scripted", context_tokens=context)
