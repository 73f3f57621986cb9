"""Showing an answer while it is made."""

import io
import json

import pytest

from mongars.cli.answer import Lines, Plain, follow, split_finished, status_of
from mongars.cli.client import Event
from mongars.errors import Unavailable


@pytest.mark.parametrize(
    ("text", "finished"),
    [
        ("one\n\ntwo", "one\n\n"),
        ("one\n\ntwo\n\n", "one\n\ntwo\n\n"),
        ("one\ntwo", ""),
        ("one\n", ""),
        ("```\na\n\nb\n", ""),
        ("```\na\n\nb\n```\n\nafter", "```\na\n\nb\n```\n\n"),
        ("- a\n\n- b", ""),
        ("1. a\n\n2. b\n\nafter\n\n", "1. a\n\n2. b\n\nafter\n\n"),
        ("text\n\n- a\n\n  more", "text\n\n"),
        ("", ""),
    ],
)
def test_a_block_is_finished_when_no_further_word_can_change_it(text: str, finished: str) -> None:
    assert split_finished(text) == (finished, text[len(finished) :])


def test_a_pipe_gets_the_text_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    out = io.StringIO()
    shown = Plain(out)
    for event in (
        Event("queued", {"position": 1}),
        Event("thinking", {"text": "hm"}),
        Event("notice", {"text": "another model answers"}),
        Event("delta", {"text": "Hello "}),
        Event("delta", {"text": "you"}),
        Event("reset", {"text": "Hello you, "}),
        Event("delta", {"text": "again"}),
        Event("done", {"finish_reason": "stop"}),
    ):
        shown.event(event)
    assert out.getvalue() == "Hello you, again\n"
    assert "another model answers" in capsys.readouterr().err


def test_an_answer_that_started_over_is_told_on_the_side(
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = io.StringIO()
    shown = Plain(out)
    shown.event(Event("delta", {"text": "one"}))
    shown.event(Event("reset", {"text": "another"}))
    assert out.getvalue() == "one\nanother"
    assert "start over" in capsys.readouterr().err


def test_programs_get_every_event_as_a_line() -> None:
    out = io.StringIO()
    Lines(out).event(Event("delta", {"seq": 2, "turn_id": "t", "text": "é\n"}))
    assert json.loads(out.getvalue()) == {"type": "delta", "seq": 2, "turn_id": "t", "text": "é\n"}
    assert out.getvalue().count("\n") == 1


def test_a_failed_turn_raises_its_problem() -> None:
    problem = {"type": "urn:mongars:problem:interrupted", "status": 503, "detail": "cut off"}
    events = [Event("delta", {"text": "x"}), Event("failed", {"problem": problem, "message": None})]
    with pytest.raises(Unavailable, match="cut off") as caught:
        follow(events, Plain(io.StringIO()))
    assert caught.value.problem == "interrupted"


def test_what_is_waited_for_is_said() -> None:
    assert status_of(Event("queued", {"position": 2})) == "waiting: 2 before you"
    assert (
        status_of(Event("progress", {"phase": "reading", "done": 45, "total": 100}))
        == "reading 45 %"
    )
    assert status_of(Event("something-new", {})) is None
