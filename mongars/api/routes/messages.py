"""Single messages, what a person thinks of them, and all of them by time."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from mongars.api.conversation_shapes import FeedbackAsked, MessageTold
from mongars.api.dependencies import BodyDep
from mongars.api.security import Chatter, Reader
from mongars.api.shapes import Limit, Page
from mongars.api.strict import StrictRoute
from mongars.ids import now

router = APIRouter(tags=["conversations"], route_class=StrictRoute)

MessageId = Annotated[str | None, Query(max_length=64)]


@router.get("/messages/{message_id}")
async def get_message(message_id: str, body: BodyDep, caller: Reader) -> MessageTold:
    """One message."""
    return MessageTold.of(await body.hippocampus.message(caller.id, message_id))


@router.post("/messages/{message_id}/feedback", status_code=204)
async def judge_message(
    message_id: str, asked: FeedbackAsked, body: BodyDep, caller: Chatter
) -> Response:
    """Say what one thinks of a message; the newest word counts."""
    await body.hippocampus.judge(caller.id, message_id, asked.value, asked.text, now())
    return Response(status_code=204)


@router.get("/history")
async def history(
    body: BodyDep,
    caller: Reader,
    conversation_id: MessageId = None,
    before: MessageId = None,
    limit: Annotated[Limit, Query()] = 50,
) -> Page[MessageTold]:
    """One's own messages, newest first; `next` is the `before` of the next part."""
    part = await body.hippocampus.history(caller.id, conversation_id, before, limit)
    return Page(items=[MessageTold.of(one) for one in part.items], next=part.next)
