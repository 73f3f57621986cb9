"""The prompt of a turn, laid out so that a local model re-uses what it has read already.

Model servers keep the state of the prompt they read last and re-use it up to the first difference.
So the system part stands first and stays as it is, the history follows word for word, and nothing
is put before or between. When the context is full, whole pairs are dropped from the front at once
down to `KEEP` of it, and the place of the cut is remembered: the following turns begin at the same
place, and the state holds again for many of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from mongars.cortex.turn import images_of
from mongars.errors import Fault, Invalid
from mongars.hippocampus import Message
from mongars.llm import ChatMessage

SYSTEM_PROMPT: Final = (
    "You are monGARS, a personal assistant that runs on its owner's own machine. "
    "Answer in the language you are spoken to in. Be helpful, accurate and brief; "
    "say so when you do not know something. Use Markdown where it helps."
)
GO_ON: Final = (
    "Your last message was cut off. Go on exactly where it ends, without repeating anything of it"
    " and without any remark about going on."
)
KEEP: Final = 0.6
"""The part of the context that a trimmed prompt fills."""
PER_MESSAGE: Final = 8
"""Tokens that a chat template puts around a message, generously."""
PER_CHARACTER: Final = 0.4
"""Tokens a character while nothing better is known, generously for prose."""
PER_IMAGE: Final = 1024

TRIMMED = "This conversation is longer than the model can read: its oldest part was left out here."


class Counting(Protocol):
    """What is asked of the language models besides answers."""

    async def context_tokens(self, model: str | None) -> int | None:
        """How much a model can read and write, in tokens; `None` where it is not known."""
        ...

    async def count(self, messages: Sequence[ChatMessage], model: str | None) -> int | None:
        """Exactly how many tokens a prompt has; `None` where the backend cannot tell."""
        ...


@dataclass(frozen=True)
class Line:
    """One message of the prompt, and the stored message it comes from."""

    message_id: str | None
    message: ChatMessage

    @property
    def characters(self) -> int:
        """How long it is."""
        return len(self.message.text)

    @property
    def most_tokens(self) -> int:
        """More than this it cannot have: a token covers a byte at least."""
        return len(self.message.text.encode()) + PER_MESSAGE + PER_IMAGE * len(self.message.images)


@dataclass(frozen=True)
class Noted:
    """What a turn notes about its prompt for the next ones: the first message that was sent, and
    how many tokens its characters turned out to be."""

    first_id: str | None = None
    characters: int = 0
    tokens: int = 0

    @classmethod
    def of(cls, details: Mapping[str, Any] | None) -> "Noted":
        """Out of a turn's details."""
        kept = (details or {}).get("prompt") or {}
        return cls(kept.get("first"), kept.get("characters", 0), kept.get("tokens", 0))

    def facts(self) -> dict[str, Any]:
        """Into a turn's details."""
        return {"first": self.first_id, "characters": self.characters, "tokens": self.tokens}

    @property
    def per_character(self) -> float:
        """Tokens a character, measured where something was."""
        if self.characters < 200 or self.tokens <= 0:
            return PER_CHARACTER
        return self.tokens / self.characters


@dataclass(frozen=True)
class Prompt:
    """What is sent, and what the next turns must know about it."""

    lines: tuple[Line, ...]
    first_id: str | None
    trimmed: bool = False

    @property
    def messages(self) -> tuple[ChatMessage, ...]:
        """As the model reads it: two of the same role in a row are one, which templates ask for."""
        joined: list[ChatMessage] = []
        for line in self.lines:
            message = line.message
            if joined and joined[-1].role == message.role != "system":
                last = joined.pop()
                message = ChatMessage(
                    message.role, f"{last.text}\n\n{message.text}", last.images + message.images
                )
            joined.append(message)
        return tuple(joined)

    @property
    def characters(self) -> int:
        """How long it is."""
        return sum(line.characters for line in self.lines)


def lay_out(
    system_prompt: str | None, history: Sequence[Message], first_id: str | None, partial: str = ""
) -> Prompt:
    """The prompt of this branch, from the message `first_id` on where that is in it.

    `partial` is the beginning of an answer that the model shall go on with.
    """
    begin = next((n for n, one in enumerate(history) if one.id == first_id), 0)
    lines = [Line(None, ChatMessage("system", system_prompt or SYSTEM_PROMPT))]
    lines += [
        Line(one.id, ChatMessage(one.role, one.text, images_of(one.details)))
        for one in history[begin:]
        if one.text or one.role == "user"
    ]
    if partial:
        lines.append(Line(None, ChatMessage("assistant", partial)))
        lines.append(Line(None, ChatMessage("user", GO_ON)))
    return Prompt(tuple(lines), history[begin].id if begin else None)


def too_long(tokens: float, limit: int) -> Invalid:
    """What is said of words that no cut makes fit."""
    return Invalid(
        f"This message is longer than the model can read (about {tokens:.0f} tokens; it can take"
        f" {limit}). Shorten it, or choose a model with a longer context.",
        slug="too-long-for-model",
    )


class Fitting:
    """Makes prompts fit into the context of the model that will read them."""

    def __init__(self, counting: Counting, answer_tokens: int) -> None:
        self._counting = counting
        self._answer_tokens = answer_tokens

    async def limit(self, model: str | None) -> int | None:
        """How many tokens a prompt may have, with room left for the answer."""
        try:
            context = await self._counting.context_tokens(model)
        except Fault:  # a model that is away is told of when the answer is asked for
            return None
        return None if context is None else context - min(self._answer_tokens, context // 4)

    async def refuse_too_long(
        self, text: str, system_prompt: str | None, model: str | None
    ) -> None:
        """Raises `Invalid` (`too-long-for-model`) for words that do not fit even alone."""
        system = Line(None, ChatMessage("system", system_prompt or SYSTEM_PROMPT))
        last = Line(None, ChatMessage("user", text))
        limit = await self.limit(model)
        if limit is None or system.most_tokens + last.most_tokens <= limit:
            return
        tokens = await self._exactly((system, last), model)
        if tokens is None:
            # Prose has more than two characters a token; what is surely too long is refused here.
            tokens = (system.characters + last.characters) // 8
        if tokens > limit:
            raise too_long(tokens, limit)

    async def fit(self, prompt: Prompt, noted: Noted, model: str | None) -> Prompt:
        """The same prompt, or one trimmed to `KEEP`. Raises `Invalid` when nothing helps."""
        limit = await self.limit(model)
        if limit is None or sum(line.most_tokens for line in prompt.lines) <= limit:
            return prompt
        ratio = noted.per_character
        guess = _guess(prompt.lines, ratio)
        measured = ratio is not PER_CHARACTER
        if measured and guess * 1.1 <= limit:
            return prompt
        exactly = await self._exactly(prompt.lines, model)
        tokens = guess if exactly is None else exactly
        if tokens <= limit:
            return prompt
        return trim(prompt, tokens, limit)

    async def _exactly(self, lines: Sequence[Line], model: str | None) -> int | None:
        try:
            return await self._counting.count([line.message for line in lines], model)
        except Fault:
            return None


def _guess(lines: Sequence[Line], per_character: float) -> float:
    return sum(
        line.characters * per_character + PER_MESSAGE + PER_IMAGE * len(line.message.images)
        for line in lines
    )


def trim(prompt: Prompt, tokens: float, limit: int) -> Prompt:
    """Drop whole pairs from the front until about `KEEP` of the limit is filled.

    The system part and everything from the last stored message of the person on stay. Raises
    `Invalid` (`too-long-for-model`) when these alone do not fit.
    """
    system, rest = prompt.lines[0], list(prompt.lines[1:])
    scale = tokens / max(1.0, _guess(prompt.lines, PER_CHARACTER))
    last = max(n for n, one in enumerate(rest) if one.message_id and one.message.role == "user")
    cut = 0
    while cut < last and scale * _guess([system, *rest[cut:]], PER_CHARACTER) > KEEP * limit:
        cut += 1
        while cut < last and rest[cut].message.role != "user":
            cut += 1
    kept = rest[cut:]
    needed = scale * _guess([system, *kept], PER_CHARACTER)
    if cut == 0 or needed > limit:
        raise too_long(needed, limit)
    return Prompt((system, *kept), kept[0].message_id, trimmed=True)
