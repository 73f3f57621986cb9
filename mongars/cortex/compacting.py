"""What is kept of a turn's events after a day: one `delta` with all of the text, and the end."""

from collections.abc import Sequence

import orjson

from mongars.cortex.events import Delta, Event, encode, join, split


def compacted(turn_id: str, groups: Sequence[bytes]) -> tuple[bytes, int]:
    """One group in place of many, and the last seq in it."""
    text: list[str] = []
    last: Event | None = None
    for event in (event for group in groups for event in split(group)):
        if event.type == "delta":
            text.append(event.facts()["text"])
        elif event.type == "reset":
            text = [event.facts()["text"]]
        last = event
    lines = [encode(turn_id, 1, Delta("".join(text)))] if any(text) else []
    if last is not None and last.ends:
        facts = last.facts()
        facts["seq"] = len(lines) + 1
        lines.append(orjson.dumps(facts))
    return join(lines), len(lines)
