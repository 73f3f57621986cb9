"""Conversations are named by the model when nobody waits for it."""

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final

from mongars.database import Database
from mongars.errors import Missing
from mongars.hippocampus import branch, conversation, set_title
from mongars.jobs import Work
from mongars.llm import ChatMessage, ChatRequest, LLMIntegration, Text

KIND: Final = "cortex.title"
MOST_CHARACTERS: Final = 60
READ_CHARACTERS: Final = 1500
ASK: Final = (
    "Write a title for the following conversation: two to six words, in its own language, without"
    " quotation marks, without a full stop. Answer with the title alone.\n\n{talk}"
)
_THINKING = re.compile(r"(?s)<think>.*?</think>")


def tidy(title: str) -> str | None:
    """What a model wrote as a title, as one short line; `None` when nothing is left."""
    lines = [line.strip() for line in _THINKING.sub("", title).splitlines() if line.strip()]
    if not lines:
        return None
    line = re.sub(r"^(?:#+\s*|(?:title|titre)\s*:\s*)", "", lines[0], flags=re.IGNORECASE)
    line = " ".join(line.strip(" \t\"'«»“”„*_`.").split())
    if len(line) > MOST_CHARACTERS:
        line = line[:MOST_CHARACTERS].rsplit(" ", 1)[0] + "…"
    return line or None


class Titles:
    """Does the jobs that name conversations."""

    def __init__(
        self,
        database: Database,
        llm: LLMIntegration,
        when_idle: Callable[[], Awaitable[None]],
        until_busy: Callable[[], Awaitable[None]],
        named: Callable[[str, str], None],
    ) -> None:
        self._database = database
        self._llm = llm
        self._when_idle = when_idle
        self._until_busy = until_busy
        self._named = named

    async def perform(self, work: Work) -> dict[str, Any] | None:
        """Name the conversation of this job, unless a person did. Gives way to every answer."""
        owner_id, conversation_id = work.owner_id, str(work.payload["conversation_id"])
        try:
            request = await self._request(owner_id, conversation_id)
        except Missing:
            return None
        if request is None:
            return None
        while (said := await self._undisturbed(request)) is None:
            await work.progress(0)
        title = tidy(said)
        if title is None:
            return None
        with contextlib.suppress(Missing):
            async with self._database.writing(owner_id) as w:
                if await set_title(w, owner_id, conversation_id, title, "model"):
                    w.on_commit(lambda: self._named(owner_id, conversation_id))
        return None

    async def _request(self, owner_id: str, conversation_id: str) -> ChatRequest | None:
        async with self._database.reading(owner_id) as r:
            talk = await conversation(r, owner_id, conversation_id)
            if talk.title is not None or talk.active_leaf_id is None:
                return None
            said = await branch(r, owner_id, conversation_id, talk.active_leaf_id)
        words = "\n\n".join(f"{one.role}: {one.text}" for one in said[:2] if one.text)
        asked = ASK.format(talk=words[:READ_CHARACTERS])
        return ChatRequest(
            messages=(ChatMessage("user", asked),),
            owner_id=owner_id,
            model=talk.model,
            temperature=0.0,
            max_tokens=32,
        )

    async def _undisturbed(self, request: ChatRequest) -> str | None:
        """What the model says; `None` when an answer began and this gave way to it."""
        await self._when_idle()
        saying = asyncio.ensure_future(self._say(request))
        disturbed = asyncio.ensure_future(self._until_busy())
        try:
            await asyncio.wait({saying, disturbed}, return_when=asyncio.FIRST_COMPLETED)
            return saying.result() if saying.done() else None
        finally:
            for task in (saying, disturbed):
                task.cancel()
            await asyncio.gather(saying, disturbed, return_exceptions=True)

    async def _say(self, request: ChatRequest) -> str:
        async with contextlib.aclosing(self._llm.answer(request)) as events:
            return "".join([event.text async for event in events if isinstance(event, Text)])
