"""What is special about OpenAI's protocol: how it is refused, how it breaks, who speaks it how."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import orjson
import pytest
from pydantic import SecretStr

from mongars.errors import Busy, Fault, Invalid, Missing, NotConfigured, Unavailable
from mongars.llm import (
    ChatMessage,
    ChatRequest,
    Finished,
    Image,
    LLMSettings,
    ModelEvent,
    Reading,
    Text,
    Thinking,
    ToolCall,
    Usage,
)
from mongars.llm.adapters.openai import OpenAI
from tests.llm.openai_server import OpenAIServer, piece_chunk

HELLO = ChatRequest((ChatMessage("user", "one two three"),), owner_id="a")


@pytest.fixture
async def server() -> AsyncIterator[OpenAIServer]:
    async with OpenAIServer() as opened:
        yield opened


@pytest.fixture
async def model(server: OpenAIServer) -> AsyncIterator[OpenAI]:
    settings = LLMSettings(
        backend="openai", url=server.url, between_tokens_timeout_s=0.2, first_token_timeout_s=0.4
    )
    async with OpenAI.open(settings) as opened:
        yield opened


async def events_of(model: OpenAI, request: ChatRequest = HELLO) -> list[ModelEvent]:
    async with aclosing(model.stream(request)) as events:
        return [event async for event in events]


async def test_every_parameter_is_sent_under_its_name(server, model):
    await events_of(
        model,
        ChatRequest(
            (ChatMessage("system", "be"), ChatMessage("user", "see", (Image("image/png", b"x"),))),
            owner_id="secret-owner",
            temperature=0.5,
            top_p=0.9,
            max_tokens=7,
            seed=3,
            stop=("END",),
            presence_penalty=0.1,
            frequency_penalty=0.2,
            json_schema={"type": "object"},
            extra={"top_k": 4, "tools": [{"type": "function"}], "tool_choice": "auto"},
        ),
    )
    (sent,) = server.requests
    assert "secret-owner" not in orjson.dumps(sent).decode()
    url = {"url": "data:image/png;base64,eA=="}
    assert sent == {
        "model": "small",
        "messages": [
            {"role": "system", "content": "be"},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "see"},
                    {"type": "image_url", "image_url": url},
                ],
            },
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.5,
        "top_p": 0.9,
        "max_tokens": 7,
        "seed": 3,
        "stop": ["END"],
        "presence_penalty": 0.1,
        "frequency_penalty": 0.2,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": True},
        },
        "top_k": 4,
        "tools": [{"type": "function"}],
        "tool_choice": "auto",
    }


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
async def test_reasoning_is_thinking_and_not_text(server, model, name):
    server.chunks = [piece_chunk({name: "hmm"}), piece_chunk({"content": "yes"}, "stop")]
    events = await events_of(model)
    assert events == [Thinking("hmm"), Text("yes"), Finished("stop", Usage(0, 2))]


async def test_calls_of_tools_come_whole(server, model):
    def call(**function: str) -> dict[str, Any]:
        return piece_chunk(
            {"tool_calls": [{"index": 0, "id": function.pop("id", None), "function": function}]}
        )

    server.chunks = [
        call(id="c1", name="look", arguments=""),
        call(arguments='{"at":'),
        call(arguments='"sky"}'),
        piece_chunk({}, "tool_calls"),
    ]
    assert (await events_of(model))[:1] == [ToolCall("c1", "look", '{"at":"sky"}')]


async def test_llama_cpp_is_asked_for_its_progress_and_others_are_not(server, model):
    await events_of(model)
    assert "return_progress" not in server.requests[-1]
    server.owned_by = "llamacpp"
    server.chunks = [
        {"choices": [], "prompt_progress": {"total": 9, "cache": 0, "processed": 4, "time_ms": 1}},
        {**piece_chunk({"content": "x"}, "stop"), "timings": {"cache_n": 5}},
    ]
    await model.models()
    events = await events_of(model)
    assert server.requests[-1]["return_progress"] is True
    assert events[0] == Reading(4, 9)
    assert events[-1] == Finished("stop", Usage(0, 1, cached_tokens=5))


async def test_llama_cpp_that_answers_under_any_name_is_not_believed(server, model):
    server.owned_by, server.refuse = "llamacpp", (500, {})
    with pytest.raises(Missing):
        await events_of(model, ChatRequest(HELLO.messages, "a", model="other"))
    assert server.requests == []


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, {"error": {"message": "Invalid API Key"}}, NotConfigured),
        (403, {}, NotConfigured),
        (404, {"error": {"message": "The model does not exist"}}, Missing),
        (400, {"error": {"message": "bad schema"}}, Invalid),
        (422, {"detail": [{"msg": "bad"}]}, Invalid),
        (408, {}, Unavailable),
        (429, {"error": {"message": "slow down"}}, Busy),
        (500, b"<html>", Unavailable),
        (503, {"error": {"message": "Loading model"}}, Unavailable),
        (301, {}, NotConfigured),
    ],
)
async def test_refusals_are_told_in_our_terms(server, model, status, body, kind):
    server.refuse, server.headers = (status, body), {"Retry-After": "7"}
    with pytest.raises(Fault) as caught:
        await events_of(model)
    assert type(caught.value) is kind
    if kind is Busy:
        assert caught.value.retry_after_s == 7


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            {"type": "exceed_context_size_error", "n_prompt_tokens": 3031, "n_ctx": 1024},
            {"prompt_tokens": 3031, "context_tokens": 1024},
        ),
        (
            {
                "message": "This model's maximum context length is 4096 tokens. However, you "
                "requested 5000 tokens (4800 in the messages, 200 in the completion)."
            },
            {"prompt_tokens": 4800, "context_tokens": 4096},
        ),
        (
            {
                "message": "You passed 4801 input tokens and requested 200 output tokens. However, "
                "the model's context length is only 4096 tokens"
            },
            {"prompt_tokens": 4801, "context_tokens": 4096},
        ),
        (
            {
                "message": "Trying to keep the first 5000 tokens when context the overflows. "
                "However, the model is loaded with context length of only 4096 tokens"
            },
            {"prompt_tokens": 5000, "context_tokens": 4096},
        ),
        (
            {
                "message": "The number of tokens to keep from the initial prompt is greater than "
                "the context length."
            },
            {},
        ),
        ({"code": "context_length_exceeded", "message": "Please reduce the length."}, {}),
    ],
)
@pytest.mark.parametrize("in_stream", [False, True])
async def test_a_prompt_that_is_too_long_is_known_by_what_each_server_says(
    server, model, error, told, in_stream
):
    if in_stream:
        server.chunks = [{"error": error}]
    else:
        server.refuse = (400, {"error": error})
    with pytest.raises(Invalid) as caught:
        await events_of(model)
    assert caught.value.problem == "too-long-for-model"
    assert dict(caught.value.extra) == told


@pytest.mark.parametrize(
    "trouble",
    [
        {"cut_after": 2},
        {"hang_after": 0},
        {"hang_after": 2},
        {"chunks": [piece_chunk({"content": "one"})]},
        {"chunks": [piece_chunk({"content": "one"})], "done_line": False},
        {"chunks": [piece_chunk({"content": "one"}), {"error": {"message": "CUDA"}}]},
        {"chunks": [b"data: {not json\n\n"]},
        {"chunks": [b"data: [1]\n\n"]},
    ],
    ids=str,
)
async def test_a_stream_that_breaks_is_unavailable_and_never_an_answer(server, model, trouble):
    for name, value in trouble.items():
        setattr(server, name, value)
    with pytest.raises(Unavailable):
        await events_of(model)


async def test_an_end_without_done_is_an_end(server, model):
    server.done_line = False
    assert isinstance((await events_of(model))[-1], Finished)


async def test_pieces_are_read_however_the_network_cuts_them(server, model):
    whole = b"".join(
        b"data: %b\r\n\r\n" % orjson.dumps(piece_chunk({"content": piece}))
        for piece in ("h\u00e9", "llo \U0001f600", "\ndata: x")
    ) + b": ping\n\ndata:%b\n\n" % orjson.dumps(piece_chunk({}, "stop"))
    server.chunks = [whole[at : at + 7] for at in range(0, len(whole), 7)]
    text = "".join(event.text for event in await events_of(model) if isinstance(event, Text))
    assert text == "h\u00e9llo \U0001f600\ndata: x"


async def test_a_slow_reader_is_not_mistaken_for_a_slow_server(server, model):
    server.hang_after = 1
    async with aclosing(model.stream(HELLO)) as events:
        await anext(events)
        await asyncio.sleep(0.5)  # longer than both time-outs
        server.resume.set()
        rest = [event async for event in events]
    assert isinstance(rest[-1], Finished)


async def test_the_key_is_sent_and_never_told(server):
    server.key = "right"
    for key in ("right", "wrong-key"):
        settings = LLMSettings(backend="openai", url=server.url, api_key=SecretStr(key))
        async with OpenAI.open(settings) as model:
            if key == "right":
                assert isinstance((await events_of(model))[-1], Finished)
                continue
            with pytest.raises(NotConfigured) as caught:
                await events_of(model)
            assert "wrong-key" not in caught.value.detail


async def test_a_server_that_is_not_there_is_unavailable_and_says_what_to_do(server, model):
    await server._runner.cleanup()
    with pytest.raises(Unavailable) as caught:
        await events_of(model)
    assert "Start it, or set MONGARS_LLM__URL" in caught.value.detail


async def test_without_an_address_it_is_not_configured():
    with pytest.raises(NotConfigured):
        async with OpenAI.open(LLMSettings(backend="openai")):
            pytest.fail("there is nothing to open")


async def test_llama_cpp_counts_tokens_and_others_cannot(server, model):
    messages = (ChatMessage("user", "one two three"),)
    assert await model.count(messages, "small") is None
    server.owned_by = "llamacpp"
    await model.models()
    assert await model.count(messages, "small") == 3
