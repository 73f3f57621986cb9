import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from pydantic import SecretStr

from mongars.errors import Busy, Fault, Invalid, Missing, NotConfigured, Unavailable
from mongars.llm.adapters.ollama import Ollama
from mongars.llm.request import (
    ChatMessage,
    ChatRequest,
    Finished,
    Image,
    ModelEvent,
    Text,
    Thinking,
    Usage,
)
from mongars.llm.settings import LLMSettings
from mongars.testing.ollama import OllamaModel, OllamaServer, Trouble

MODEL = "llama3.2:1b"
SETTINGS = LLMSettings(
    model=MODEL,
    connect_timeout_s=2.0,
    list_timeout_s=2.0,
    first_token_timeout_s=2.0,
    between_tokens_timeout_s=2.0,
)


@pytest.fixture
async def server() -> AsyncIterator[OllamaServer]:
    models = [
        OllamaModel(MODEL),
        OllamaModel("thinker:8b", ("completion", "thinking"), 40_960),
        OllamaModel("seer:4b", ("completion", "vision")),
        OllamaModel("small:1b", context_tokens=2048),
        OllamaModel("embed:latest", ("embedding",), 2048, family="nomic-bert"),
        OllamaModel("old:7b", None),
    ]
    async with OllamaServer({model.name: model for model in models}) as server:
        yield server


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as http:
        yield http


@pytest.fixture
def ollama(server: OllamaServer, http: aiohttp.ClientSession) -> Ollama:
    return Ollama(server.url, SETTINGS, http)


def ask(text: str = "a b c", **values: Any) -> ChatRequest:
    messages = values.pop("messages", (ChatMessage("user", text),))
    return ChatRequest(messages, owner_id="somebody", **values)


async def answer(ollama: Ollama, request: ChatRequest) -> list[ModelEvent]:
    async with contextlib.aclosing(ollama.stream(request)) as events:
        return [event async for event in events]


def text_of(events: list[ModelEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, Text))


async def refusal(ollama: Ollama, request: ChatRequest) -> Fault:
    with pytest.raises(Fault) as refused:
        await answer(ollama, request)
    return refused.value


async def test_an_answer_comes_in_pieces_and_ends_with_its_usage(ollama):
    events = await answer(ollama, ask("one two"))
    assert events == [
        Text("You"),
        Text(" said:"),
        Text(" one"),
        Text(" two"),
        Finished("stop", Usage(prompt_tokens=6, completion_tokens=4)),
    ]


async def test_every_parameter_reaches_ollama_under_its_name(ollama, server):
    await answer(
        ollama,
        ask(
            temperature=0.3,
            top_p=0.9,
            max_tokens=50,
            seed=7,
            stop=("END",),
            presence_penalty=0.1,
            frequency_penalty=0.2,
            extra={"top_k": 40},
        ),
    )
    (chat,) = server.chats()
    assert chat["options"] == {
        "temperature": 0.3,
        "top_p": 0.9,
        "num_predict": 50,
        "seed": 7,
        "stop": ["END"],
        "presence_penalty": 0.1,
        "frequency_penalty": 0.2,
        "top_k": 40,
        "num_ctx": 4096,
    }
    assert chat["keep_alive"] == 300
    assert (chat["truncate"], chat["shift"]) == (False, False)
    assert "somebody" not in str(chat)


async def test_a_parameter_that_ollama_has_not_is_refused_and_not_ignored(ollama, server):
    fault = await refusal(ollama, ask(extra={"logit_bias": {"1": 2}}))
    assert isinstance(fault, Invalid)
    assert "logit_bias" in fault.detail
    assert server.chats() == []


async def test_an_answer_that_reached_its_limit_says_so(ollama):
    events = await answer(ollama, ask("one two three", max_tokens=3))
    assert events[-1] == Finished("length", Usage(7, 3))


async def test_a_schema_is_given_as_format(ollama, server):
    schema = {"type": "object", "properties": {"age": {"type": "integer"}}}
    events = await answer(ollama, ask(json_schema=schema))
    assert text_of(events) == '{"age":7}'
    assert server.chats()[0]["format"] == schema


async def test_thinking_comes_apart_from_the_answer(ollama, server):
    events = await answer(ollama, ask("x", model="thinker:8b"))
    thoughts = "".join(event.text for event in events if isinstance(event, Thinking))
    assert (thoughts, text_of(events)) == ("Let me think.", "You said: x")
    assert server.chats()[0]["think"] is True


async def test_thinking_can_be_turned_off_or_graded(ollama, server):
    events = await answer(ollama, ask(model="thinker:8b", extra={"reasoning_effort": "none"}))
    await answer(ollama, ask(model="thinker:8b", extra={"reasoning_effort": "high"}))
    assert not any(isinstance(event, Thinking) for event in events)
    assert [chat["think"] for chat in server.chats()] == [False, "high"]


async def test_asking_a_model_to_think_that_cannot_is_refused(ollama):
    assert isinstance(await refusal(ollama, ask(extra={"think": True})), Invalid)


async def test_images_go_as_base64_to_a_model_that_sees(ollama, server):
    message = ChatMessage("user", "what is this", (Image("image/png", b"\x89PNG"),))
    await answer(ollama, ask(model="seer:4b", messages=(message,)))
    assert server.chats()[0]["messages"][0]["images"] == [base64.b64encode(b"\x89PNG").decode()]


async def test_images_are_refused_by_a_model_that_does_not_see(ollama, server):
    message = ChatMessage("user", "what is this", (Image("image/png", b"\x89PNG"),))
    fault = await refusal(ollama, ask(messages=(message,)))
    assert fault.problem == "model-cannot-see"
    assert server.chats() == []


async def test_a_model_that_makes_vectors_cannot_be_talked_to(ollama):
    fault = await refusal(ollama, ask(model="embed:latest"))
    assert isinstance(fault, Invalid)


async def test_the_context_grows_in_steps_and_does_not_shrink_while_the_model_is_loaded(
    ollama, server
):
    for length in (10, 200, 12_000, 20_000, 10):
        await answer(ollama, ask("word " * (length // 5)))
    contexts = [chat["options"]["num_ctx"] for chat in server.chats()]
    assert contexts == [4096, 4096, 8192, 8192, 8192]
    assert server.loads == 2


async def test_the_context_is_no_larger_than_the_model_was_made_for(ollama, server):
    await answer(ollama, ask("x", model="small:1b"))
    assert server.chats()[-1]["options"]["num_ctx"] == 2048


async def test_a_forgotten_model_starts_again_with_a_small_context(server, http):
    settings = SETTINGS.model_copy(update={"keep_alive_s": 0.0})
    ollama = Ollama(server.url, settings, http)
    await answer(ollama, ask("word " * 3000))
    await answer(ollama, ask("word"))
    assert [chat["options"]["num_ctx"] for chat in server.chats()] == [8192, 4096]


async def test_a_guess_that_was_too_small_is_mended_with_what_ollama_counted(ollama, server):
    # One character a word: more tokens than any guess from bytes expects.
    events = await answer(ollama, ask("x " * 5000, max_tokens=10))
    assert isinstance(events[-1], Finished)
    assert [chat["options"]["num_ctx"] for chat in server.chats()] == [4096, 8192]


async def test_a_prompt_longer_than_the_model_is_too_long_and_never_cut(ollama):
    fault = await refusal(ollama, ask("x " * 3000, model="small:1b"))
    assert isinstance(fault, Invalid)
    assert fault.problem == "too-long-for-model"
    assert fault.extra == {"prompt_tokens": 3004, "context_tokens": 2048}


async def test_closing_the_answer_closes_the_stream_at_once(ollama, server):
    server.token_s = 0.01
    events = ollama.stream(ask("many " * 500))
    await anext(events)
    await events.aclose()
    await server.wait_until(lambda s: s.active == 0 and s.abandoned == 1, timeout_s=0.2)


async def test_a_cancelled_asker_frees_the_model_while_it_still_reads(ollama, server):
    server.trouble = Trouble(hang_after=0)
    asking = asyncio.create_task(answer(ollama, ask()))
    await server.wait_until(lambda s: s.active == 1)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await server.wait_until(lambda s: s.active == 0)


async def test_a_server_that_is_not_there_says_how_to_start_it(server, http):
    ollama = Ollama(server.url, SETTINGS, http)
    await server.__aexit__(None, None, None)
    for call in (ollama.models(), answer(ollama, ask()), ollama.version()):
        with pytest.raises(Unavailable, match="ollama serve"):
            await call


async def test_a_model_that_is_not_there_says_how_to_get_it(ollama):
    fault = await refusal(ollama, ask(model="nothing:1b"))
    assert isinstance(fault, Missing)
    assert "mongars models pull ollama/nothing:1b" in fault.detail


async def test_a_key_goes_to_ollama_only_where_ollama_is_the_backend(server, http):
    for backend in ("ollama", "openai"):
        update = {"api_key": SecretStr("k"), "backend": backend}
        await Ollama(server.url, SETTINGS.model_copy(update=update), http).version()
    assert server.authorizations == ["Bearer k", None]


async def test_no_model_chosen_is_said(server, http):
    ollama = Ollama(server.url, SETTINGS.model_copy(update={"model": None}), http)
    assert isinstance(await refusal(ollama, ask()), Missing)


async def test_an_error_in_the_middle_of_the_stream_breaks_the_answer(ollama, server):
    server.trouble = Trouble(error_after=2)
    events = ollama.stream(ask("one two"))
    assert [await anext(events), await anext(events)] == [Text("You"), Text(" said:")]
    with pytest.raises(Unavailable, match="CUDA error"):
        await anext(events)


@pytest.mark.parametrize(
    ("trouble", "what"),
    [
        (Trouble(cut_after=1), "broke"),
        (Trouble(end_after=1), "broke off in the middle"),
        (Trouble(garbage=True), "language"),
        (Trouble(refuse=(500, "llama runner process has terminated")), "terminated"),
    ],
)
async def test_whatever_breaks_the_server_is_unavailable(ollama, server, trouble, what):
    server.trouble = trouble
    fault = await refusal(ollama, ask())
    assert isinstance(fault, Unavailable)
    assert what in fault.detail


@pytest.mark.parametrize(
    ("status", "kind"), [(503, Busy), (429, Busy), (401, NotConfigured), (403, NotConfigured)]
)
async def test_a_refusal_is_told_by_its_reason(ollama, server, status, kind):
    server.trouble = Trouble(refuse=(status, "server busy, please try again"))
    assert isinstance(await refusal(ollama, ask()), kind)


async def test_a_connection_that_ollama_closed_meanwhile_costs_no_answer(server, http):
    ollama = Ollama(server.url, SETTINGS, http)
    await answer(ollama, ask())
    await ollama.version()  # leaves a connection open
    await server.__aexit__(None, None, None)
    async with OllamaServer(server.models, port=server.port):
        assert text_of(await answer(ollama, ask("again"))) == "You said: again"


@pytest.mark.parametrize("after", [0, 1])
async def test_silence_before_or_between_tokens_is_given_up(server, http, after):
    update = {"first_token_timeout_s": 0.2, "between_tokens_timeout_s": 0.2}
    ollama = Ollama(server.url, SETTINGS.model_copy(update=update), http)
    server.trouble = Trouble(hang_after=after)
    assert isinstance(await refusal(ollama, ask()), Unavailable)
    await server.wait_until(lambda s: s.active == 0)


async def test_what_ollama_refuses_is_the_askers_mistake(ollama, server):
    server.trouble = Trouble(refuse=(400, "invalid option"))
    fault = await refusal(ollama, ask())
    assert isinstance(fault, Invalid)
    assert "invalid option" in fault.detail


async def test_models_are_listed_with_digest_size_context_and_kind(ollama, server):
    cards = {card.name: card for card in await ollama.models()}
    assert set(cards) == set(server.models)
    assert cards[MODEL].full_name == f"ollama/{MODEL}"
    assert cards[MODEL].digest == server.models[MODEL].digest
    assert (cards[MODEL].size_bytes, cards[MODEL].context_tokens) == (1_000_000, 32_768)
    assert [name for name, card in cards.items() if not card.chat] == ["embed:latest"]


async def test_a_list_asked_again_does_not_ask_for_every_model_again(ollama, server):
    await ollama.models()
    asked = len(server.requests)
    await ollama.models()
    assert len(server.requests) == asked


async def test_a_probe_tells_what_a_model_can(ollama):
    seer = await ollama.probe("seer:4b")
    assert (seer.vision, seer.tools, seer.thinking, seer.json_schema) == (True, False, False, True)
    assert (seer.context_tokens, seer.writing_per_s) == (32_768, None)
    await answer(ollama, ask("one two", model="seer:4b"))
    again = await ollama.probe("seer:4b")
    assert (again.reading_per_s, again.writing_per_s) == (300.0, 40.0)
    old = await ollama.probe("old:7b")
    assert (old.vision, old.thinking) == (None, None)


async def test_tokens_are_not_counted_by_ollama(ollama):
    assert await ollama.count((ChatMessage("user", "x"),), MODEL) is None


async def test_a_pull_tells_its_progress_and_ends_with_the_model(ollama, server):
    server.pullable["new:1b"] = OllamaModel("new:1b", size_bytes=4000)
    told: list[tuple[int, int | None]] = []

    async def progress(done: int, total: int | None) -> None:
        told.append((done, total))

    card = await ollama.pull("new:1b", progress)
    assert card.full_name == "ollama/new:1b"
    assert told == [(0, 4000), (1000, 4000), (2000, 4000), (3000, 4000), (4000, 4000)]


async def test_a_pull_of_what_nobody_has_is_missing(ollama):
    async def progress(done: int, total: int | None) -> None: ...

    with pytest.raises(Missing, match="unknown:1b"):
        await ollama.pull("unknown:1b", progress)


async def test_a_pull_that_is_cut_is_unavailable(ollama, server):
    server.pullable["new:1b"] = OllamaModel("new:1b")
    server.trouble = Trouble(cut_pull_after=2)

    async def progress(done: int, total: int | None) -> None: ...

    with pytest.raises(Unavailable):
        await ollama.pull("new:1b", progress)
    assert "new:1b" not in server.models


async def test_a_model_is_removed(ollama, server):
    await ollama.remove("old:7b")
    assert "old:7b" not in server.models
    with pytest.raises(Missing):
        await ollama.remove("old:7b")
