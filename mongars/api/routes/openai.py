"""OpenAI's `/v1`: what its clients send is honoured or refused, never ignored.

Nothing is stored unless `X-Mongars-Conversation` names a conversation of one's own. A caller who
leaves cancels: this surface is not durable, `/api/v1/chat` is.
"""

import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Header, Request, Response

from mongars.api import openai_shapes as shapes
from mongars.api.departure import StreamWhileListening, while_listening
from mongars.api.dependencies import BodyDep
from mongars.api.problems import openai_error
from mongars.api.security import Chatter, Reader
from mongars.api.strict import StrictRoute
from mongars.auth import Caller
from mongars.body import Body
from mongars.cortex import SYSTEM_PROMPT
from mongars.errors import Fault, FieldFault, Invalid, Missing, meaning
from mongars.ids import new_id
from mongars.llm import (
    AnswerEvent,
    ChatMessage,
    ChatRequest,
    Finished,
    Started,
    Text,
    Thinking,
    Usage,
)

PREFIX = ""
OWN = "mongars"
"""The model that is monGARS itself: the model in use, as monGARS."""

router = APIRouter(prefix="/v1", tags=["openai"], route_class=StrictRoute)


@router.get("/models")
async def openai_models(body: BodyDep, caller: Reader) -> shapes.Models:
    """monGARS itself, and every model it can reach."""
    cards = await body.llm.models()
    names = [OWN, *(card.full_name for card in cards)]
    return shapes.Models(data=[shapes.Model(id=name) for name in names])


@router.get("/models/{name:path}")
async def openai_model(name: str, body: BodyDep, caller: Reader) -> shapes.Model:
    """One model."""
    known = {OWN, *(card.full_name for card in await body.llm.models())}
    if name not in known:
        raise _no_model(name)
    return shapes.Model(id=name)


@router.post(
    "/chat/completions",
    response_model=shapes.Completion,
    responses={200: {"content": {"text/event-stream": {}}}},
)
async def complete(
    request: Request,
    asked: shapes.CompletionAsked,
    body: BodyDep,
    caller: Chatter,
    x_mongars_conversation: Annotated[str | None, Header()] = None,
) -> Response:
    """An answer, whole or as a stream of chunks."""
    await body.cortex.admit(caller.id)
    if x_mongars_conversation is not None:
        events = _stored(body, caller, asked, x_mongars_conversation)
    else:
        events = body.llm.answer(_request(asked, caller))
    opened = await while_listening(request, _opened(events))
    completion_id = f"chatcmpl-{new_id()}"
    if asked.stream:
        chunks = _chunks(opened, completion_id, asked)
        return StreamWhileListening(chunks, media_type="text/event-stream")
    whole = await while_listening(request, _whole(opened, completion_id))
    return Response(whole.model_dump_json(), media_type="application/json")


def _request(asked: shapes.CompletionAsked, caller: Caller) -> ChatRequest:
    """What the client asked, in our terms. Raises `Invalid` for what cannot be honoured."""
    messages = tuple(shapes.chat_message(one, index) for index, one in enumerate(asked.messages))
    model: str | None = asked.model
    if asked.model == OWN:
        model = None
        if not any(message.role == "system" for message in messages):
            messages = (ChatMessage("system", SYSTEM_PROMPT), *messages)
    form = asked.response_format
    return ChatRequest(
        messages=messages,
        owner_id=caller.id,
        model=model,
        temperature=asked.temperature,
        top_p=asked.top_p,
        max_tokens=asked.max_completion_tokens or asked.max_tokens,
        seed=asked.seed,
        stop=asked.stops(),
        presence_penalty=asked.presence_penalty,
        frequency_penalty=asked.frequency_penalty,
        json_schema=form.json_schema.schema_ if form and form.json_schema else None,
        json_object=form is not None and form.type == "json_object",
        extra={"logit_bias": asked.logit_bias} if asked.logit_bias else {},
    )


async def _stored(
    body: Body, caller: Caller, asked: shapes.CompletionAsked, conversation_id: str
) -> AsyncGenerator[AnswerEvent]:
    """Say the last message in a conversation of one's own, as a turn that is kept."""
    last = shapes.chat_message(asked.messages[-1], len(asked.messages) - 1)
    if last.role != "user":
        raise Invalid(
            "In a stored conversation the last message must be the person's.",
            errors=[
                FieldFault(("body", "messages", len(asked.messages) - 1, "role"), "must be user")
            ],
        )
    async with contextlib.aclosing(
        body.cortex.answer_in(
            caller.id,
            conversation_id,
            last,
            model=None if asked.model == OWN else asked.model,
            temperature=asked.temperature,
        )
    ) as events:
        async for event in events:
            yield event


async def _opened(
    events: AsyncGenerator[AnswerEvent],
) -> tuple[Started, AsyncGenerator[AnswerEvent]]:
    """Wait until a model took the request, so that a refusal is an answer and not a broken stream."""
    try:
        async for event in events:
            if isinstance(event, Started):
                return event, events
    except BaseException:
        await events.aclose()
        raise
    raise Missing("The model gave no answer.")


Opened = tuple[Started, AsyncGenerator[AnswerEvent]]


async def _whole(opened: Opened, completion_id: str) -> shapes.Completion:
    started, events = opened
    text: list[str] = []
    thinking: list[str] = []
    finished = Finished("stop", Usage(0, 0))
    async with contextlib.aclosing(events):
        async for event in events:
            match event:
                case Text(piece):
                    text.append(piece)
                case Thinking(piece):
                    thinking.append(piece)
                case Finished():
                    finished = event
    return shapes.completion(
        completion_id, started.model, "".join(text), "".join(thinking) or None, finished
    )


async def _chunks(
    opened: Opened, completion_id: str, asked: shapes.CompletionAsked
) -> AsyncIterator[bytes]:
    """The chunks of a streamed completion, as OpenAI's clients read them."""
    started, events = opened
    head = {
        "id": completion_id,
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": started.model,
    }

    def chunk(delta: dict[str, Any], reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return _event({**head, "choices": [choice]})

    yield chunk({"role": "assistant", "content": ""})
    try:
        async with contextlib.aclosing(events):
            async for event in events:
                match event:
                    case Text(piece):
                        yield chunk({"content": piece})
                    case Thinking(piece):
                        yield chunk({"reasoning_content": piece})
                    case Finished(reason, usage):
                        yield chunk({}, shapes.finish_reason(reason))
                        if asked.stream_options and asked.stream_options.include_usage:
                            told = shapes.usage(usage).model_dump()
                            yield _event({**head, "choices": [], "usage": told})
    except Fault as fault:
        yield _event(openai_error(fault, meaning(fault).status))
    yield b"data: [DONE]\n\n"


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"


@router.post("/embeddings")
async def embed(
    request: Request, asked: shapes.EmbeddingsAsked, body: BodyDep, caller: Chatter
) -> shapes.Embeddings:
    """Vectors of texts, by the encoder in use."""
    card = await body.neurons.card()
    if asked.model not in (OWN, card.name, f"{body.settings.neurons.backend}/{card.name}"):
        raise _no_model(asked.model)
    texts = asked.texts()
    vectors = await while_listening(
        request, body.neurons.encode(texts, kind="passage", owner_id=caller.id)
    )
    if asked.dimensions is not None and asked.dimensions != vectors.shape[1]:
        raise Invalid(
            "This encoder's vectors have another length.",
            errors=[FieldFault(("body", "dimensions"), f"must be {vectors.shape[1]}")],
        )
    tokens = sum(await body.neurons.count_tokens(texts) or ())
    return shapes.embeddings(vectors, card.name, tokens, asked.encoding_format)


def _no_model(name: str) -> Missing:
    return Missing(
        "There is no such model; GET /v1/models lists them.",
        slug="model-not-found",
        errors=[FieldFault(("body", "model"), "is not one of /v1/models")],
    )
