"""Performing a turn: the model is asked, what it says is recorded, and the turn is brought to an end."""

import asyncio
import contextlib
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import structlog
from opentelemetry import trace

from mongars.cortex import store
from mongars.cortex.events import (
    Done,
    Failed,
    FinishReason,
    Noticed,
    Progress,
    Queued,
    Reset,
    Started,
    Thought,
    clean,
)
from mongars.cortex.prompt import TRIMMED, Fitting, Noted, Prompt, lay_out, too_long, trim
from mongars.cortex.recorder import Recorder
from mongars.cortex.run import Ending, Run, piece
from mongars.database import Database
from mongars.errors import URN, Fault, Invalid, Unavailable, meaning
from mongars.hippocampus import MessageState, branch, conversation, message
from mongars.ids import rfc3339
from mongars.llm import (
    ChatRequest,
    Finished,
    LLMIntegration,
    Notice,
    Reading,
    Text,
    Thinking,
    Usage,
    Waiting,
)
from mongars.llm import Started as ModelStarted

log = structlog.get_logger()
tracer = trace.get_tracer("mongars")


def problem_of(fault: Fault) -> dict[str, Any]:
    """The problem that a failed turn tells (RFC 9457)."""
    return {
        "type": f"{URN}{fault.problem}",
        "title": fault.title,
        "status": meaning(fault).status,
        "detail": fault.detail,
    }


class Performer:
    """Brings runs to their end."""

    def __init__(
        self, database: Database, llm: LLMIntegration, recorder: Recorder, fitting: Fitting
    ) -> None:
        self._database = database
        self._llm = llm
        self._recorder = recorder
        self._fitting = fitting

    async def perform(self, run: Run) -> None:
        """Perform a turn; returns when its end is on disk, or when another process has it."""
        turn = run.turn
        with tracer.start_as_current_span("turn", attributes={"turn.kind": turn.kind}):
            try:
                ending = _stopped(run) if run.stop_asked else await self._answer(run)
            except asyncio.CancelledError:
                if run.lost or run.handing_over or not run.stop_asked:
                    raise
                task = asyncio.current_task()
                assert task is not None
                task.uncancel()
                ending = _stopped(run)
            except Fault as fault:
                log.info("cortex.turn_failed", turn_id=turn.id, problem=fault.problem)
                ending = failed(run, problem_of(fault))
            except Exception:  # a turn is a unit of work that ends here
                log.exception("cortex.turn_broke", turn_id=turn.id)
                broken = Fault(
                    "Something went wrong inside; the server's log says more.", slug="internal"
                )
                ending = failed(run, problem_of(broken))
            self.end(run, ending)
            await run.over.wait()

    def end(self, run: Run, ending: Ending) -> None:
        """Have a turn's end written."""
        run.ending = ending
        self._recorder.add(run, ending.last)

    async def _answer(self, run: Run) -> Ending:
        noted, prompt = await self._prompt(run)
        try:
            return await self._ask(run, prompt)
        except Invalid as fault:
            if fault.problem != "too-long-for-model" or run.first_token_s is not None:
                raise
            prompt = _trimmed_by_backend(prompt, noted, fault)
        self._recorder.add(run, Noticed(TRIMMED))
        return await self._ask(run, prompt)

    async def _prompt(self, run: Run) -> tuple[Noted, Prompt]:
        turn = run.turn
        noted = Noted()
        if run.history is None or run.conversation is None:
            async with self._database.reading(turn.owner_id) as r:
                run.conversation = await conversation(r, turn.owner_id, turn.conversation_id)
                run.history = await branch(r, turn.owner_id, turn.conversation_id, turn.message_id)
                details = await store.last_details(
                    r, turn.owner_id, turn.conversation_id, but=turn.id
                )
                if turn.kind == "continue":
                    run.base = (await message(r, turn.owner_id, turn.answer_id)).text
            noted = Noted.of(next(iter(details), None))
        if run.base and not run.text:
            self._recorder.add(run, Reset(run.base))
        laid_out = lay_out(
            run.conversation.system_prompt, run.history, noted.first_id, partial=run.base
        )
        prompt = await self._fitting.fit(laid_out, noted, self._model(run))
        if prompt.trimmed:
            self._recorder.add(run, Noticed(TRIMMED))
        return noted, prompt

    def _model(self, run: Run) -> str | None:
        assert run.conversation is not None
        return run.options.model or run.conversation.model

    def _request(self, run: Run, prompt: Prompt) -> ChatRequest:
        assert run.conversation is not None
        options, talk = run.options, run.conversation
        return ChatRequest(
            messages=prompt.messages,
            owner_id=run.turn.owner_id,
            model=self._model(run),
            temperature=talk.temperature if options.temperature is None else options.temperature,
            top_p=options.top_p,
            max_tokens=options.max_tokens,
            seed=options.seed,
        )

    async def _ask(self, run: Run, prompt: Prompt) -> Ending:
        request = self._request(run, prompt)
        with tracer.start_as_current_span("turn.model"):
            async with contextlib.aclosing(self._llm.answer(request)) as events:
                async for event in events:
                    if isinstance(event, Finished):
                        return _done(run, prompt, event)
                    self._record(run, event)
        raise Unavailable(
            "The model broke off before the end of its answer.", slug="model-broke-off"
        )

    def _record(self, run: Run, event: Any) -> None:
        match event:
            case Text(text):
                self._recorder.add(run, piece(text))
                self._spoke(run)
            case Thinking(text):
                thought = clean(text)
                run.thinking.append(thought)
                self._recorder.add(run, Thought(thought))
                self._spoke(run)
            case Waiting(position):
                self._recorder.add(run, Queued(position))
            case Reading(done, total):
                self._recorder.add(run, Progress("reading", done, total))
            case Notice(text):
                self._recorder.add(run, Noticed(text))
            case ModelStarted(model):
                run.model = model
                if not run.started:
                    run.started = True
                    turn = run.turn
                    happened = Started(turn.conversation_id, turn.message_id, model, turn.client_id)
                    self._recorder.add(run, happened)

    @staticmethod
    def _spoke(run: Run) -> None:
        if run.first_token_s is None:
            run.first_token_s = time.perf_counter() - run.began


def _trimmed_by_backend(prompt: Prompt, noted: Noted, fault: Invalid) -> Prompt:
    """Trim by what the backend says of its context. Raises the same fault when nothing helps."""
    tokens = fault.extra.get("prompt_tokens")
    limit = fault.extra.get("context_tokens")
    if not isinstance(tokens, int) or not isinstance(limit, int):
        tokens = round(prompt.characters * noted.per_character)
        limit = round(tokens * 0.9)
    try:
        return trim(prompt, tokens, round(limit * 0.8))
    except Invalid:
        raise too_long(tokens, limit) from fault


def _timing(run: Run) -> dict[str, Any]:
    first = run.first_token_s
    return {
        "first_token_ms": None if first is None else round(first * 1000, 1),
        "total_ms": round((time.perf_counter() - run.began) * 1000, 1),
    }


def told_message(run: Run, state: MessageState, at: datetime | None = None) -> dict[str, Any]:
    """The answer as clients read it."""
    turn = run.turn
    return {
        "id": turn.answer_id,
        "conversation_id": turn.conversation_id,
        "parent_id": turn.message_id,
        "role": "assistant",
        "text": run.whole_text(),
        "at": rfc3339(at or turn.created_at),
        "state": state,
        "model": run.model,
    }


def _usage(usage: Usage | None) -> dict[str, Any]:
    if usage is None or not usage.prompt_tokens:  # not told, as by a model that is stopped
        completion = usage.completion_tokens or None if usage else None
        return {"prompt_tokens": None, "completion_tokens": completion}
    told = {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}
    return told if usage.cached_tokens is None else {**told, "cached_tokens": usage.cached_tokens}


def _details(run: Run, **facts: Any) -> dict[str, Any]:
    thinking = "".join(run.thinking)
    return {**facts, "thinking": thinking} if thinking else facts


def _done(run: Run, prompt: Prompt, finished: Finished) -> Ending:
    reason: FinishReason = "length" if finished.reason == "length" else "stop"
    usage, timing = _usage(finished.usage), _timing(run)
    noted = Noted(prompt.first_id, prompt.characters, finished.usage.prompt_tokens)
    talk = run.conversation
    return Ending(
        last=Done(told_message(run, "done"), reason, usage, timing),
        turn_state="done",
        message_state="done",
        error=None,
        message_details=_details(run, finish_reason=reason, usage=usage, timing=timing),
        turn_details={"prompt": noted.facts()},
        name_conversation=talk is not None and talk.title is None and not talk.temporary,
    )


def _stopped(run: Run) -> Ending:
    usage, timing = _usage(None), _timing(run)
    return Ending(
        last=Done(told_message(run, "stopped"), "stopped", usage, timing),
        turn_state="stopped",
        message_state="stopped",
        error=None,
        message_details=_details(run, finish_reason="stopped", usage=usage, timing=timing),
        turn_details={},
    )


def failed(run: Run, problem: Mapping[str, Any], state: MessageState = "failed") -> Ending:
    """An end without a whole answer; what had come is kept."""
    partial = told_message(run, state) if run.whole_text() else None
    return Ending(
        last=Failed(problem, partial),
        turn_state="failed",
        message_state=state,
        error=problem,
        message_details=_details(run, problem=dict(problem), timing=_timing(run)),
        turn_details={},
    )
