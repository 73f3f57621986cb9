"""Conversations: begun, listed, found, changed, copied, deleted and brought back."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response

from mongars.api.conversation_shapes import (
    ConversationAsked,
    ConversationChanged,
    ConversationTold,
    ForkAsked,
    HitTold,
    MessageTold,
)
from mongars.api.dependencies import BodyDep
from mongars.api.security import Chatter, Reader
from mongars.api.shapes import Limit, Page
from mongars.api.strict import StrictRoute
from mongars.hippocampus import Filter

router = APIRouter(tags=["conversations"], route_class=StrictRoute)

Cursor = Annotated[str | None, Query(max_length=300)]
Many = Annotated[Limit, Query()]


@router.get("/conversations")
async def list_conversations(
    body: BodyDep,
    caller: Reader,
    cursor: Cursor = None,
    limit: Many = 50,
    archived: bool = False,
    temporary: bool = False,
    pinned: bool | None = None,
    tag: Annotated[str | None, Query(max_length=200)] = None,
) -> Page[ConversationTold]:
    """One's own conversations: pinned ones first, then by the last word in them."""
    wanted = Filter(archived=archived, temporary=temporary, pinned=pinned, tag=tag)
    part = await body.hippocampus.conversations(caller.id, wanted, cursor, limit)
    return Page(items=[ConversationTold.of(one) for one in part.items], next=part.next)


@router.post("/conversations", status_code=201)
async def begin_conversation(
    asked: ConversationAsked, body: BodyDep, caller: Chatter
) -> ConversationTold:
    """Begin a conversation."""
    values = asked.model_dump() | {"tags": tuple(asked.tags)}
    return ConversationTold.of(await body.hippocampus.begin(caller.id, **values))


@router.get("/conversations/search")
async def search_conversations(
    body: BodyDep,
    caller: Reader,
    q: Annotated[str, Query(min_length=1, max_length=200)],
    cursor: Cursor = None,
    limit: Many = 20,
) -> Page[HitTold]:
    """Conversations in whose title or texts these words stand, accents and case aside."""
    part = await body.hippocampus.search(caller.id, q, cursor, limit)
    return Page(items=[HitTold.of(one) for one in part.items], next=part.next)


@router.get("/conversations/{conversation_id}")
async def get_conversation(conversation_id: str, body: BodyDep, caller: Reader) -> ConversationTold:
    """One conversation."""
    return ConversationTold.of(await body.hippocampus.conversation(caller.id, conversation_id))


@router.patch("/conversations/{conversation_id}")
async def change_conversation(
    conversation_id: str, asked: ConversationChanged, body: BodyDep, caller: Chatter
) -> ConversationTold:
    """Change some of its fields."""
    values = asked.model_dump(exclude_unset=True)
    if "tags" in values:
        values["tags"] = tuple(values["tags"])
    changed = await body.hippocampus.change(caller.id, conversation_id, values)
    return ConversationTold.of(changed)


@router.delete("/conversations/{conversation_id}", status_code=204)
async def delete_conversation(conversation_id: str, body: BodyDep, caller: Chatter) -> Response:
    """Hide it at once; within 10 seconds it can be restored, then it is gone."""
    await body.hippocampus.delete(caller.id, conversation_id)
    return Response(status_code=204)


@router.post("/conversations/{conversation_id}/restore")
async def restore_conversation(
    conversation_id: str, body: BodyDep, caller: Chatter
) -> ConversationTold:
    """Bring a deleted conversation back, within 10 seconds."""
    return ConversationTold.of(await body.hippocampus.restore(caller.id, conversation_id))


@router.get("/conversations/{conversation_id}/messages")
async def list_messages(
    conversation_id: str,
    body: BodyDep,
    caller: Reader,
    tree: bool = False,
    cursor: Cursor = None,
    before: Annotated[str | None, Query(max_length=64)] = None,
    limit: Many = 100,
) -> Page[MessageTold]:
    """What was said, in order: the branch in view, or with `tree` every branch.

    From the root on by `cursor`, or the part that leads to the message `before`.
    """
    part = await body.hippocampus.messages(
        caller.id, conversation_id, tree=tree, cursor=cursor, before=before, limit=limit
    )
    return Page(items=[MessageTold.of(one) for one in part.items], next=part.next)


@router.post("/conversations/{conversation_id}/fork", status_code=201)
async def fork_conversation(
    conversation_id: str, body: BodyDep, caller: Chatter, asked: ForkAsked | None = None
) -> ConversationTold:
    """A new conversation with a copy of the branch that ends in this message."""
    message_id = asked.message_id if asked else None
    forked = await body.hippocampus.fork(caller.id, conversation_id, message_id)
    return ConversationTold.of(forked)


@router.get(
    "/conversations/{conversation_id}/export",
    response_class=Response,
    responses={200: {"content": {"application/json": {}, "text/markdown": {}}}},
)
async def export_conversation(
    conversation_id: str,
    body: BodyDep,
    caller: Reader,
    format: Literal["mongars", "markdown"] = "mongars",  # noqa: A002 - the name in the address
) -> Response:
    """One conversation as a file: to be brought in again, or to read."""
    if format == "markdown":
        text = await body.hippocampus.markdown(caller.id, conversation_id)
        return _download(text.encode(), "text/markdown; charset=utf-8", "conversation.md")
    document = await body.hippocampus.export(caller.id, conversation_id)
    return _download(document, "application/json", "conversation.json")


def _download(content: bytes, media_type: str, name: str) -> Response:
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return Response(content, media_type=media_type, headers=headers)
