"""The door to every language model: who answers, in which order, and how they are.

A request waits its turn in its backend's fair queue, goes through the circuit and is streamed by
the adapter. While the chosen backend is away before it said anything, the fallbacks that the owner
named are tried in order; a notice says who answers instead of whom. An answer is never invented.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import orjson
import structlog
from opentelemetry import metrics

from mongars.cache import TieredCache
from mongars.circuit import CircuitSettings, State
from mongars.errors import Busy, Fault, Invalid, Missing, NotConfigured, Unavailable
from mongars.llm.answers import Answers
from mongars.llm.backend import Backend
from mongars.llm.choice import Backends, Choice
from mongars.llm.request import (
    AnswerEvent,
    Capabilities,
    ChatMessage,
    ChatRequest,
    Finished,
    ModelCard,
    ModelEvent,
    Notice,
    Reading,
    Started,
    Waiting,
)
from mongars.llm.settings import LLMSettings

log = structlog.get_logger()

_LIVING_S = 3.0
_CAPABILITIES_TTL_S = 30 * 86_400.0
_AWAY = (Unavailable, NotConfigured, Busy)
"""What another backend may answer instead of; all else is the request's own fault."""


@dataclass(frozen=True)
class LLMStatus:
    """Which model answers, why this one, and how it is."""

    state: Literal["ready", "loading", "degraded", "away"]
    backend: str | None = None
    model: str | None = None
    why: str = ""
    """Why this one was chosen."""
    detail: str = ""
    """What is wrong and what to do about it; empty when nothing is."""
    circuits: Mapping[str, str] = field(default_factory=dict)
    """`closed`, `half_open` or `open`, by backend."""


class LLMIntegration:
    """One door to every language model."""

    def __init__(
        self, settings: LLMSettings, backends: Backends, choice: Choice, cache: TieredCache | None
    ) -> None:
        self._settings = settings
        self._backends = backends
        self._choice = choice
        self._cache = cache
        self._answers = Answers(cache)
        self._capabilities: dict[str, Capabilities] = {}
        meter = metrics.get_meter("mongars")
        self._requests = meter.create_counter(
            "mongars.llm.requests", description="Answers asked of language models."
        )
        self._first_token = meter.create_histogram(
            "mongars.llm.first_token", unit="s", description="From the request to its first token."
        )

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls,
        settings: LLMSettings,
        circuit: CircuitSettings,
        data_dir: Path,
        cache: TieredCache | None = None,
    ) -> AsyncGenerator["LLMIntegration"]:
        """Choose a backend and open it; a model is loaded behind this.

        Raises `NotConfigured` for a wrong setting, `NotBuilt` for `ray`. A part that is missing
        (a package, a model's file) is told by `status` and by every request.
        """
        async with Backends.open(settings, circuit, data_dir) as backends:
            choice = await backends.choose()
            llm = cls(settings, backends, choice, cache)
            watch = asyncio.create_task(llm._watch(), name="llm.watch")
            try:
                yield llm
            finally:
                watch.cancel()
                await asyncio.wait({watch})

    async def answer(self, request: ChatRequest) -> AsyncGenerator[AnswerEvent, None]:
        """Answer; consume under `contextlib.aclosing`. `Started` says which model it is.

        Raises the faults of `LanguageModel`, `Missing` for an unknown model, and `Unavailable`
        when nobody can answer, which says what to do next.
        """
        await self._follow()
        skipped: list[tuple[str, Fault]] = []
        candidates = self._candidates(request.model)
        for name, model in candidates:
            started = False
            try:
                async with aclosing(self._attempt(name, model, request, skipped)) as events:
                    async for event in events:
                        started = started or isinstance(event, Started)
                        yield event
                return
            except (*_AWAY, Missing) as fault:
                # A fallback that is not there is passed over; the chosen one's absence is told.
                passed_over = isinstance(fault, _AWAY) or skipped
                if started or len(candidates) == 1 or not passed_over:
                    raise
                skipped.append((f"{name}/{model}" if model else name, fault))
        raise _nobody(skipped)

    def status(self) -> LLMStatus:
        """How it is right now, without asking anybody."""
        choice = self._choice
        backend = self._backends.opened.get(choice.backend)
        circuits = {
            name: one.breaker.state.name.lower() for name, one in self._backends.opened.items()
        }
        if backend is None:
            detail = self._backends.faults.get(choice.backend, "")
            return LLMStatus("away", choice.backend, choice.model, choice.why, detail, circuits)
        state, detail = _state(backend)
        if state == "away" and self._settings.fallbacks:
            state = "degraded"
        model = choice.model or backend.default
        detail = detail or self._backends.hint
        return LLMStatus(state, choice.backend, model, choice.why, detail, circuits)

    async def models(self) -> Sequence[ModelCard]:
        """What all backends that live have, the chosen one first; empty while none lives."""
        names = dict.fromkeys([self._choice.backend, *self._backends.opened])
        backends = [self._backends.opened[name] for name in names if name in self._backends.opened]
        found = await asyncio.gather(*(_living(backend) for backend in backends))
        return [card for cards in found for card in cards]

    async def capabilities(self, full_name: str) -> Capabilities:
        """What a model can, kept for as long as its weights stay the same."""
        name, model = self._split(full_name)
        backend = await self._backends.get(name)
        model = model or await backend.first()
        card = await backend.card(model)
        key = f"{name}/{model}@{card.digest if card else None}"
        if key not in self._capabilities:
            self._capabilities[key] = await self._probed(backend, model, key)
        return self._capabilities[key]

    async def count(self, messages: Sequence[ChatMessage], model: str | None = None) -> int | None:
        """Prompt tokens of these messages; `None` where the server cannot tell, or not yet."""
        backend, name = await self._asked(model)
        if backend.loads is not None and backend.loads.health.state != "ready":
            return None
        return await backend.model.count(messages, name)

    async def context_tokens(self, model: str | None = None) -> int | None:
        """How much this model reads and writes at most; `None`: not known."""
        backend, name = await self._asked(model)
        card = backend.cards.get(name) or await backend.card(name)
        return None if card is None else card.context_tokens

    async def use(self, full_name: str) -> None:
        """Take this model from now on (`backend/name`, or `auto`). Raises `Missing`, `Invalid`.

        It is taken in memory; `model.json` in the data directory, which is followed, keeps it.
        """
        if full_name == "auto":
            self._choice = await self._backends.choose(kept=False)
            return
        name, model = self._split(full_name)
        backend = await self._backends.get(name, model)
        if model is not None and backend.loads is not None:
            await backend.loads.use(model)
            backend.default = None
        elif model is not None:
            card = await backend.card(model)
            if card is None:
                raise Missing(f"{name} has no model {model[:140]!r}.")
            if not card.chat:
                raise Invalid(f"{full_name} turns texts into vectors and cannot chat.")
        self._choice = Choice(name, model, "chosen by hand")

    async def _follow(self) -> None:
        """Follow `model.json` when somebody wrote it (`mongars models use`, another process)."""
        if not self._backends.choice_changed():
            return
        try:
            await self.use(self._backends.kept_choice() or "auto")
        except Fault as fault:
            log.warning("llm.choice_not_followed", why=fault.detail)
            self._backends.hint = fault.detail

    def _split(self, full_name: str) -> tuple[str, str | None]:
        """Backend and model of `backend/name`, or of a bare name of the chosen backend."""
        name, _, model = full_name.partition("/")
        if self._backends.knows(name):
            return name, model or None
        return self._choice.backend, full_name

    def _candidates(self, model: str | None) -> list[tuple[str, str | None]]:
        """Whom to ask, in order. Who names a model gets that one or none."""
        chosen = (self._choice.backend, self._choice.model)
        if model is not None:
            return [self._split(model)]
        others = [self._split(name) for name in self._settings.fallbacks]
        return [chosen, *(other for other in others if other != chosen)]

    async def _asked(self, model: str | None) -> tuple[Backend, str]:
        """Backend and model that would answer; raises at once while the circuit is open."""
        await self._follow()
        name, wanted = self._candidates(model)[0]
        backend = await self._backends.get(name, wanted)
        backend.breaker.check()
        return backend, wanted or await backend.first()

    async def _attempt(
        self,
        name: str,
        model: str | None,
        request: ChatRequest,
        skipped: Sequence[tuple[str, Fault]],
    ) -> AsyncGenerator[AnswerEvent, None]:
        """One backend's answer, with what comes before it."""
        began = time.monotonic()
        outcome = "failed"
        timed = False
        try:
            backend = await self._backends.get(name, model)
            backend.breaker.check()
            async with aclosing(self._queued(backend, model, request, skipped)) as events:
                async for event in events:
                    if not timed and not isinstance(event, Waiting | Notice | Started | Reading):
                        timed = True
                        self._first_token.record(time.monotonic() - began, {"backend": name})
                    if isinstance(event, Finished):
                        outcome = "ok"
                    yield event
        except _AWAY:
            outcome = "unavailable"
            raise
        except Fault:
            outcome = "refused"
            raise
        except (GeneratorExit, asyncio.CancelledError):
            outcome = "ok" if outcome == "ok" else "stopped"
            raise
        finally:
            self._requests.add(1, {"backend": name, "outcome": outcome})

    async def _queued(
        self,
        backend: Backend,
        model: str | None,
        request: ChatRequest,
        skipped: Sequence[tuple[str, Fault]],
    ) -> AsyncGenerator[AnswerEvent, None]:
        """The answer once there is a model and a seat."""
        loads = backend.loads
        if loads is not None:
            if loads.health.state != "ready" and loads.health.detail:
                yield Notice(loads.health.detail)
            await loads.ready()
        with backend.queue.ticket(request.owner_id) as ticket:
            while ticket.position is not None:
                yield Waiting(ticket.position)
                await ticket.moved()
            with backend.breaker.attempt() as attempt:
                model = model or await backend.first()
                full_name = f"{backend.name}/{model}"
                asked = _named(request, model)
                async with aclosing(self._made(backend, asked, model)) as events:
                    async for event in events:
                        if not attempt.answered:
                            attempt.answered = True
                            if skipped:
                                yield Notice(_instead(full_name, skipped))
                            yield Started(full_name)
                        yield event

    async def _made(
        self, backend: Backend, request: ChatRequest, model: str
    ) -> AsyncGenerator[ModelEvent, None]:
        """The model's answer, or the same answer made before."""
        digest = None
        if self._answers.takes(request):
            card = await backend.card(model)
            digest = card.digest if card is not None else None
        if digest is not None:
            known = await self._answers.find(request, f"{backend.name}/{model}@{digest}")
            for event in known or ():
                yield event
            if known is not None:
                return
        made: list[ModelEvent] = []
        async with aclosing(backend.model.stream(request)) as events:
            async for event in events:
                if digest is not None:
                    made.append(event)
                    if isinstance(event, Finished):
                        key = f"{backend.name}/{model}@{digest}"
                        await self._answers.keep(request, key, made)
                yield event

    async def _probed(self, backend: Backend, model: str, key: str) -> Capabilities:
        async def probe() -> bytes:
            return orjson.dumps(await backend.model.probe(model))

        if self._cache is None:
            return await backend.model.probe(model)
        told = await self._cache.get_or_make(
            "capabilities", key, probe, owner_id=None, ttl_s=_CAPABILITIES_TTL_S
        )
        return Capabilities(**orjson.loads(told))

    async def _watch(self) -> None:
        """Look now and then whether the chosen backend answers; switches nothing by itself."""
        while True:
            try:
                await self._follow()
                await self._backends.look_around(self._choice)
            except Exception:
                log.exception("llm.watch_failed")
            await asyncio.sleep(self._settings.check_interval_s)


def _named(request: ChatRequest, model: str) -> ChatRequest:
    """The request with this model's name, made without looking at every field again."""
    if request.model == model:
        return request
    return ChatRequest(**{**vars(request), "model": model})


def _state(backend: Backend) -> tuple[Literal["ready", "loading", "degraded", "away"], str]:
    """How an opened backend is, and why it is not ready."""
    if (loads := backend.loads) is not None:
        states: dict[str, Literal["ready", "loading", "degraded", "away"]] = {
            "loading": "loading",
            "restarting": "degraded",
            "failed": "away",
        }
        if loads.health.state != "ready":
            return states[loads.health.state], loads.health.detail
    if backend.trouble:
        return "away", backend.trouble
    if backend.breaker.state is State.OPEN:
        return "away", backend.breaker.last_failure
    return "ready", ""


async def _living(backend: Backend) -> Sequence[ModelCard]:
    try:
        async with asyncio.timeout(_LIVING_S):
            return await backend.look()
    except (Fault, TimeoutError):
        return ()


def _instead(full_name: str, skipped: Sequence[tuple[str, Fault]]) -> str:
    names = " and ".join(name for name, _ in skipped)
    return f"{full_name} answers instead of {names}. {skipped[0][1].detail}"


def _nobody(skipped: Sequence[tuple[str, Fault]]) -> Unavailable:
    """Nobody can answer: why, one after the other, and when to try again."""
    waits = [fault.retry_after_s for _, fault in skipped if fault.retry_after_s is not None]
    return Unavailable(
        " ".join(f"{name}: {fault.detail}" for name, fault in skipped),
        retry_after_s=min(waits, default=None),
    )
