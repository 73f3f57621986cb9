"""A turn's events in the terms of language models, for callers who speak with those."""

from mongars.cortex.events import Event
from mongars.errors import URN, Busy, Fault, Invalid, Missing, Unavailable
from mongars.llm import AnswerEvent, Finished, Started, Text, Thinking, Usage

_KINDS: dict[int, type[Fault]] = {404: Missing, 422: Invalid, 429: Busy}


def as_answer(event: Event) -> AnswerEvent | None:
    """What a model would have said; `None` for what only turns say. Raises a failed turn's fault."""
    if event.type not in ("started", "delta", "thinking", "done", "failed"):
        return None
    facts = event.facts()
    match event.type:
        case "started":
            return Started(facts["model"])
        case "delta":
            return Text(facts["text"])
        case "thinking":
            return Thinking(facts["text"])
        case "done":
            used = facts["usage"]
            usage = Usage(
                used["prompt_tokens"] or 0,
                used["completion_tokens"] or 0,
                used.get("cached_tokens"),
            )
            return Finished(facts["finish_reason"], usage)
        case _:
            problem = facts["problem"]
            kind = _KINDS.get(problem["status"], Unavailable)
            raise kind(problem["detail"], slug=problem["type"].removeprefix(URN))
