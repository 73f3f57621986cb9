"""What every language model promises: the twin, OpenAI's protocol, Ollama's, and the embedded one."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import aiohttp
import orjson
import pytest

from mongars.errors import Invalid, Missing
from mongars.llm import (
    ChatMessage,
    ChatRequest,
    Finished,
    LanguageModel,
    LLMSettings,
    ModelEvent,
    Reading,
    Text,
    Thinking,
)
from mongars.llm.adapters.embedded import Embedded
from mongars.llm.adapters.ollama import Ollama
from mongars.llm.adapters.openai import OpenAI
from mongars.testing.models import ScriptedModel
from mongars.testing.ollama import OllamaModel, OllamaServer
from tests.llm.openai_server import OpenAIServer

CONTEXT = 4096
WORDS = "one two three four five six seven eight nine ten"
SCHEMA = {
    "type": "object",
    "properties": {"age": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["age"],
    "additionalProperties": False,
}

pytestmark = pytest.mark.timeout(90)


@contextlib.asynccontextmanager
async def opened(kind: str, data_dir: Path) -> AsyncIterator[LanguageModel]:
    async with contextlib.AsyncExitStack() as stack:
        match kind:
            case "twin":
                yield ScriptedModel(context_tokens=CONTEXT)
            case "ollama":
                models = {"small": OllamaModel("small", context_tokens=CONTEXT)}
                ollama = await stack.enter_async_context(OllamaServer(models))
                http = await stack.enter_async_context(aiohttp.ClientSession())
                yield Ollama(ollama.url, LLMSettings(model="small"), http)
            case "openai":
                server = await stack.enter_async_context(OpenAIServer(context=CONTEXT))
                settings = LLMSettings(backend="openai", url=server.url)
                yield await stack.enter_async_context(OpenAI.open(settings))
            case _:
                yield await stack.enter_async_context(Embedded.open(LLMSettings(), data_dir))


@pytest.fixture(
    params=["twin", "ollama", "openai", pytest.param("embedded", marks=pytest.mark.model)]
)
async def model(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[LanguageModel]:
    async with opened(request.param, tmp_path) as made:
        yield made


def asked(text: str = WORDS, **parameters: object) -> ChatRequest:
    messages = (ChatMessage("system", "Answer shortly."), ChatMessage("user", text))
    values: dict[str, object] = {"temperature": 0.0, "max_tokens": 12, **parameters}
    return ChatRequest(messages, owner_id="alice", **values)  # type: ignore[arg-type]


async def events_of(model: LanguageModel, request: ChatRequest) -> list[ModelEvent]:
    async with aclosing(model.stream(request)) as events:
        return [event async for event in events]


def text_of(events: list[ModelEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, Text))


async def test_an_answer_is_pieces_and_then_exactly_one_end_with_its_tokens(model):
    events = await events_of(model, asked())
    assert text_of(events).strip()
    assert [isinstance(event, Finished) for event in events].index(True) == len(events) - 1
    end = events[-1]
    assert isinstance(end, Finished)
    assert end.reason in ("stop", "length")
    assert end.usage.prompt_tokens > 0
    assert 0 < end.usage.completion_tokens <= 13
    kinds = [type(event) for event in events[:-1]]
    assert set(kinds) <= {Reading, Thinking, Text}


async def test_the_answer_ends_at_the_limit_and_says_so(model):
    end = (await events_of(model, asked(max_tokens=2)))[-1]
    assert isinstance(end, Finished)
    assert end.reason == "length"


async def test_a_stop_text_ends_the_answer_and_is_not_in_it(model):
    whole = text_of(await events_of(model, asked()))
    stop = whole.split()[1]
    assert stop not in text_of(await events_of(model, asked(stop=(stop,))))


async def test_a_schema_is_obeyed(model):
    request = asked("How old is Ann, who is 5?", json_schema=SCHEMA, max_tokens=60)
    answer = text_of(await events_of(model, request))
    assert isinstance(orjson.loads(answer)["age"], int)


async def test_a_prompt_that_is_too_long_is_refused_with_both_numbers(model):
    with pytest.raises(Invalid) as caught:
        await events_of(model, asked("word " * (CONTEXT + 200)))
    assert caught.value.problem == "too-long-for-model"
    assert caught.value.extra["prompt_tokens"] > caught.value.extra["context_tokens"] == CONTEXT


async def test_an_unknown_model_is_missing(model):
    with pytest.raises(Missing):
        await events_of(model, asked(model="no-such-model"))


async def test_closing_an_answer_frees_the_model_for_the_next(model):
    for _ in range(model.seats + 2):
        async with aclosing(model.stream(asked("count to a thousand", max_tokens=500))) as events:
            async for event in events:
                if isinstance(event, Text):
                    break
    async with asyncio.timeout(20):
        assert isinstance((await events_of(model, asked()))[-1], Finished)


async def test_a_cancelled_answer_frees_the_model_for_the_next(model):
    tasks = [
        asyncio.create_task(events_of(model, asked("tell a long story", max_tokens=500)))
        for _ in range(model.seats + 2)
    ]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    async with asyncio.timeout(30):
        assert isinstance((await events_of(model, asked()))[-1], Finished)


async def test_what_it_has_can_be_listed_probed_and_asked_by_name(model):
    (card,) = await model.models()
    assert (card.backend, card.chat, card.context_tokens) == (model.name, True, CONTEXT)
    assert card.full_name == f"{model.name}/{card.name}"
    assert (await model.probe(card.name)).context_tokens == CONTEXT
    assert isinstance((await events_of(model, asked(model=card.name)))[-1], Finished)


async def test_tokens_are_counted_or_not_told(model):
    (card,) = await model.models()
    short = await model.count((ChatMessage("user", "one"),), card.name)
    long = await model.count((ChatMessage("user", WORDS),), card.name)
    assert (short is None) == (long is None)
    assert short is None or (long is not None and 0 < short < long)
