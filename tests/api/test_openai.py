"""The official client and LangChain's talk with `/v1`; what is not honoured is refused."""

from __future__ import annotations

import base64
import struct
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import httpx
import openai
import pytest

if TYPE_CHECKING:
    from mongars.body import Body

HELLO: list[Any] = [{"role": "user", "content": "one two three"}]


@pytest.fixture
async def official(alice: httpx.AsyncClient) -> AsyncIterator[openai.AsyncOpenAI]:
    """The official client, with an API key of Alice's."""
    made = await alice.post(
        "/api/v1/me/api-keys", json={"name": "test", "scopes": ["chat", "read"]}
    )
    key = made.json()["key"]
    transport = alice._transport
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as http:
        yield openai.AsyncOpenAI(
            api_key=key, base_url="http://testserver/v1", http_client=http, max_retries=0
        )


async def test_a_completion_comes_whole(official: openai.AsyncOpenAI) -> None:
    answer = await official.chat.completions.create(model="mongars", messages=HELLO)
    assert answer.choices[0].message.content == "one two three"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


async def test_a_completion_comes_as_a_stream(official: openai.AsyncOpenAI) -> None:
    stream = await official.chat.completions.create(
        model="mongars", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == "one two three"
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].usage is not None


async def test_thinking_comes_beside_the_answer(official: openai.AsyncOpenAI) -> None:
    asked: list[Any] = [{"role": "user", "content": "[[think hmm]] yes"}]
    answer = await official.chat.completions.create(model="mongars", messages=asked)
    message = answer.choices[0].message
    assert message.model_extra is not None
    assert "hmm" in message.model_extra["reasoning_content"]
    assert "hmm" not in (message.content or "")


async def test_models_are_listed(official: openai.AsyncOpenAI) -> None:
    names = [model.id async for model in await official.models.list()]
    assert "mongars" in names
    assert len(names) > 1
    assert (await official.models.retrieve(names[1])).id == names[1]


async def test_another_name_passes_through_and_an_unknown_one_is_refused(
    official: openai.AsyncOpenAI,
) -> None:
    names = [model.id async for model in await official.models.list()]
    answer = await official.chat.completions.create(model=names[1], messages=HELLO)
    assert answer.model == names[1]
    with pytest.raises(openai.NotFoundError):
        await official.chat.completions.create(model="no-such-model", messages=HELLO)


@pytest.mark.parametrize(
    "wrong",
    [
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"n": 2},
        {"logprobs": True},
        {"temperature": 7},
        {"max_tokens": 0},
        {"extra_body": {"surprise": 1}},
        {"messages": []},
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "image_url", "image_url": {"url": "http://example.org/a.png"}}
                    ],
                }
            ]
        },
    ],
    ids=lambda wrong: next(iter(wrong)),
)
async def test_what_is_not_honoured_is_refused(
    official: openai.AsyncOpenAI, wrong: dict[str, Any]
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await official.chat.completions.create(**{"model": "mongars", "messages": HELLO, **wrong})
    body: Any = caught.value.body
    assert body["type"] == "invalid_request_error"
    assert body["param"]


async def test_parameters_reach_the_model(official: openai.AsyncOpenAI) -> None:
    asked: list[Any] = [{"role": "user", "content": "[[words 50]]"}]
    answer = await official.chat.completions.create(model="mongars", messages=asked, max_tokens=5)
    assert answer.choices[0].finish_reason == "length"
    assert len((answer.choices[0].message.content or "").split()) == 5


async def test_a_wrong_key_is_refused_in_their_shape(official: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.AuthenticationError):
        await official.with_options(api_key="mg_wrong").models.list()


async def test_a_body_that_is_no_json_is_refused_in_their_shape(alice: httpx.AsyncClient) -> None:
    answered = await alice.post("/v1/chat/completions", content=b"{")
    assert answered.status_code == 400
    assert answered.json()["error"]["type"] == "invalid_request_error"


async def test_a_model_that_is_away_is_an_error_in_their_shape(
    official: openai.AsyncOpenAI,
) -> None:
    asked: list[Any] = [{"role": "user", "content": "[[fail 0]]"}]
    with pytest.raises(openai.InternalServerError) as caught:
        await official.chat.completions.create(model="mongars", messages=asked)
    assert caught.value.status_code == 503


async def test_nothing_is_stored_unless_a_conversation_is_named(
    official: openai.AsyncOpenAI, alice: httpx.AsyncClient, bob: httpx.AsyncClient
) -> None:
    await official.chat.completions.create(model="mongars", messages=HELLO)
    assert (await alice.get("/api/v1/conversations")).json()["items"] == []

    named = (await alice.post("/api/v1/conversations", json={})).json()["id"]
    header = {"X-Mongars-Conversation": named}
    await official.chat.completions.create(model="mongars", messages=HELLO, extra_headers=header)
    kept = (await alice.get(f"/api/v1/conversations/{named}/messages")).json()["items"]
    assert [message["text"] for message in kept] == ["one two three", "one two three"]

    others = (await bob.post("/api/v1/conversations", json={})).json()["id"]
    with pytest.raises(openai.NotFoundError):
        await official.chat.completions.create(
            model="mongars", messages=HELLO, extra_headers={"X-Mongars-Conversation": others}
        )


async def test_langchain_talks_and_streams(official: openai.AsyncOpenAI) -> None:
    from langchain_openai import ChatOpenAI
    from pydantic import SecretStr

    chat = ChatOpenAI(
        model="mongars",
        base_url="http://testserver/v1",
        api_key=SecretStr(official.api_key),
        http_async_client=official._client,
        max_retries=0,
    )
    assert (await chat.ainvoke("one two three")).content == "one two three"
    pieces = [piece.content async for piece in chat.astream("one two three")]
    assert "".join(str(piece) for piece in pieces) == "one two three"


@pytest.mark.model
async def test_embeddings_come_as_numbers_and_as_base64(
    official: openai.AsyncOpenAI, body: Body
) -> None:
    texts = ["the cat sat on the mat", "a kitten rests on a rug", "quarterly revenue grew"]
    answer = await official.embeddings.create(model="mongars", input=texts, encoding_format="float")
    vectors = [one.embedding for one in answer.data]
    assert answer.usage.prompt_tokens > 10

    def alike(one: list[float], two: list[float]) -> float:
        return sum(a * b for a, b in zip(one, two, strict=True))

    assert alike(vectors[0], vectors[1]) > alike(vectors[0], vectors[2]) + 0.2
    raw = await official.with_raw_response.embeddings.create(
        model="mongars", input=texts[0], encoding_format="base64"
    )
    coded = raw.http_response.json()["data"][0]["embedding"]
    decoded = struct.unpack(f"<{len(vectors[0])}f", base64.b64decode(coded))
    assert decoded == pytest.approx(vectors[0], abs=1e-4)
