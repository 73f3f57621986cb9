"""A language model that follows a script: the twin of the port of language models.

Without directives it says the last message of the person again, word by word. Directives in that
message steer it, so that a whole server can be driven by what a person types:

    [[words 30]]      answer with 30 words
    [[say hello]]     answer with this text
    [[delay 20ms]]    wait before every word
    [[think hmm]]     think this first
    [[read 3]]        tell three steps of reading first
    [[fail 5]]        break off after 5 words (0: before the first)
    [[refuse]]        refuse the request
    [[hold]]          never go on after the first word
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from mongars.errors import Invalid, Missing, Unavailable
from mongars.llm import (
    Capabilities,
    ChatMessage,
    ChatRequest,
    Finished,
    FinishReason,
    LLMSettings,
    ModelCard,
    ModelEvent,
    Reading,
    Text,
    Thinking,
    Usage,
)

_DIRECTIVE = re.compile(r"\[\[(words|say|delay|think|read|fail|refuse|hold)\b\s*([^\]]*)\]\]")
_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s)?")


@dataclass(frozen=True)
class Script:
    """What it does unless the prompt says otherwise; as text `"words=30,delay_s=0.02"`."""

    words: int | None = None
    say: str | None = None
    delay_s: float = 0.0
    think: str = ""
    read: int = 0
    fail: int | None = None
    refuse: bool = False
    hold: bool = False

    @classmethod
    def parsed(cls, text: str) -> "Script":
        """A script from settings; raises `Invalid`."""
        directives = [part.partition("=") for part in text.split(",") if part]
        return cls().steered([(name.strip(), value.strip()) for name, _, value in directives])

    def steered(self, directives: Sequence[tuple[str, str]]) -> "Script":
        """This script as the directives change it; raises `Invalid` for what it does not know."""
        values: dict[str, Any] = dict(vars(self))
        for name, value in directives:
            if name in ("words", "read", "fail") and value.isdecimal():
                values[name] = int(value)
            elif name in ("say", "think"):
                values[name] = value
            elif name in ("refuse", "hold"):
                values[name] = True
            elif name in ("delay", "delay_s") and (time := _TIME.fullmatch(value)):
                values["delay_s"] = float(time[1]) / (1000 if time[2] == "ms" else 1)
            else:
                raise Invalid(f"The scripted model knows no directive {name!r} {value[:80]!r}.")
        return Script(**values)


@dataclass
class ScriptedModel:
    """The model; a token is a word. `settings.url` may carry a script, as in `words=30`."""

    settings: LLMSettings = field(default_factory=LLMSettings)
    script: Script | None = None
    context_tokens: int = 100_000
    card: ModelCard | None = None
    name: str = "scripted"

    requests: list[ChatRequest] = field(default_factory=list, init=False)
    """Everything that was asked, oldest first."""
    active: int = field(default=0, init=False)
    """Answers being made right now."""
    away: bool = field(default=False, init=False)
    """While set, it does not answer at all."""

    def __post_init__(self) -> None:
        self.seats = self.settings.seats or 4
        if self.script is None:
            self.script = Script.parsed(self.settings.url or "")
        if self.card is None:
            self.card = ModelCard(
                name=self.settings.model or "twin",
                backend=self.name,
                digest="sha256:scripted",
                context_tokens=self.context_tokens,
            )

    async def stream(self, request: ChatRequest) -> AsyncGenerator[ModelEvent, None]:
        """Follow the script."""
        self.requests.append(request)
        self._answer(request.model)
        script, words = self._plan(request)
        prompt = sum(tokens_of(message) for message in request.messages)
        if prompt > self.context_tokens:
            raise Invalid(
                f"This is too long for the model: {prompt} tokens, and it reads "
                f"{self.context_tokens}.",
                slug="too-long-for-model",
                extra={"prompt_tokens": prompt, "context_tokens": self.context_tokens},
            )
        self.active += 1
        try:
            for step in range(script.read):
                yield Reading(prompt * (step + 1) // script.read, prompt)
            if script.think:
                yield Thinking(script.think)
            reason: FinishReason = "stop"
            if request.max_tokens is not None and len(words) > request.max_tokens:
                words, reason = words[: request.max_tokens], "length"
            for place, word in enumerate(words):
                if place == script.fail:
                    raise Unavailable("The scripted model broke off, as it was told to.")
                await asyncio.sleep(script.delay_s)
                yield Text(word if place == 0 else f" {word}")
                if script.hold:
                    await asyncio.Event().wait()
            if script.fail is not None and script.fail >= len(words):
                raise Unavailable("The scripted model broke off, as it was told to.")
            yield Finished(reason, Usage(prompt, len(words)))
        finally:
            self.active -= 1

    async def models(self) -> Sequence[ModelCard]:
        """Its one model."""
        self._answer(None)
        assert self.card is not None
        return [self.card]

    async def probe(self, model: str) -> Capabilities:
        """What it can."""
        self._answer(model)
        return Capabilities(
            context_tokens=self.context_tokens,
            tools=False,
            json_schema=True,
            vision=False,
            thinking=True,
            embeddings=False,
        )

    async def count(self, messages: Sequence[ChatMessage], model: str) -> int | None:
        """Words of the messages."""
        self._answer(model)
        return sum(tokens_of(message) for message in messages)

    def _answer(self, model: str | None) -> None:
        if self.away:
            raise Unavailable("The scripted model was told to be away.")
        assert self.card is not None
        if model is not None and model != self.card.name:
            raise Missing(f"The scripted model is called {self.card.name}, not {model[:140]!r}.")

    def _plan(self, request: ChatRequest) -> tuple[Script, list[str]]:
        """The script of this request, and the words of its answer."""
        assert self.script is not None
        asked = next((m.text for m in reversed(request.messages) if m.role == "user"), "")
        script = self.script.steered(_DIRECTIVE.findall(asked))
        if script.refuse:
            raise Invalid("The scripted model refuses this, as it was told to.")
        if request.json_schema is not None:
            return script, [orjson.dumps(_instance(request.json_schema)).decode()]
        if request.json_object:
            return script, ['{"said":"json"}']
        if script.words is not None:
            return script, [f"word{place}" for place in range(1, script.words + 1)]
        text = script.say if script.say is not None else _DIRECTIVE.sub("", asked)
        for stop in request.stop:
            text = text.partition(stop)[0]
        return script, text.split()


def tokens_of(message: ChatMessage) -> int:
    """How the twin counts: a token per word."""
    return len(message.text.split())


def _instance(schema: Mapping[str, Any]) -> Any:
    """The simplest value of a JSON schema."""
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            return {key: _instance(part) for key, part in schema.get("properties", {}).items()}
        case "array":
            return []
        case "integer" | "number":
            return 7
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return "text"
