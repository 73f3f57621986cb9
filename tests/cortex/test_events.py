"""Events are serialised once and taken apart without being parsed."""

import orjson
import pytest

from mongars.cortex.compacting import compacted
from mongars.cortex.events import Delta, Done, Queued, Started, clean, encode, join, split
from mongars.cortex.run import Run, _merged
from mongars.cortex.turn import Options


def test_a_group_is_json_and_splits_into_its_events() -> None:
    texts = ["plain", "a\nb", '"},\n{"type":"done"', "\u2028 é 🎉", ""]
    lines = [encode("t", n, Delta(text)) for n, text in enumerate(texts, 1)]
    group = join(lines)
    assert [one["text"] for one in orjson.loads(group)] == texts
    events = list(split(group))
    assert [event.seq for event in events] == [1, 2, 3, 4, 5]
    assert [event.facts()["text"] for event in events] == texts
    assert {event.type for event in events} == {"delta"}


def test_a_client_id_is_told_only_where_there_is_one() -> None:
    without = orjson.loads(encode("t", 1, Started("c", "m", "b/x")))
    assert set(without) == {"type", "turn_id", "seq", "conversation_id", "message_id", "model"}
    assert orjson.loads(encode("t", 1, Started("c", "m", "b/x", "mine")))["client_id"] == "mine"


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("plain", "plain"),
        ("a\x00b", "a\ufffdb"),
        ("\ud83c\udf89", "🎉"),
        ("x\ud83c", "x\ufffd"),
        ("é🎉", "é🎉"),
    ],
)
def test_a_models_text_becomes_one_that_can_be_kept(said: str, kept: str) -> None:
    assert clean(said) == kept
    assert encode("t", 1, Delta(clean(said)))


def test_pieces_that_go_to_disk_together_are_one_event() -> None:
    merged = _merged([Delta("a"), Delta("b"), Queued(1), Delta("c"), Delta("d")])
    assert merged == [Delta("ab"), Queued(1), Delta("cd")]


def test_a_group_that_could_not_be_written_goes_first_the_next_time() -> None:
    run = Run(turn=_Turn(), options=Options())  # type: ignore[arg-type]
    run.happen(Delta("a"))
    first = run.take()
    assert first is not None
    run.unsaved = first
    run.happen(Delta("b"))
    again = run.take()
    assert again is not None
    assert (again.first_seq, again.last_seq) == (1, 2)
    assert again.lines[0] == first.lines[0]
    assert run.take() is None


class _Turn:
    id = "t"


def test_what_is_kept_after_a_day_is_one_delta_and_the_end() -> None:
    message = {"text": "new text"}
    group = join(
        [
            encode("t", 1, Queued(0)),
            encode("t", 2, Delta("old")),
            b'{"type":"reset","turn_id":"t","seq":3,"text":""}',
            encode("t", 4, Delta("new ")),
        ]
    )
    rest = join([encode("t", 5, Delta("text")), encode("t", 6, Done(message, "stop", {}, {}))])
    kept, last_seq = compacted("t", [group, rest])
    events = list(split(kept))
    assert [event.type for event in events] == ["delta", "done"]
    assert events[0].facts()["text"] == "new text"
    assert events[1].facts()["message"] == message
    assert last_seq == events[-1].seq == 2
