"""The turns of all conversations: begun, followed, stopped, taken over."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Coroutine, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import orjson
import structlog

from mongars.bus import Bus
from mongars.cortex import store
from mongars.cortex.answering import as_answer
from mongars.cortex.beginning import KEY_LASTS, Beginning, Key, Prepared, Wish, new_message
from mongars.cortex.compacting import compacted
from mongars.cortex.events import Event, Reset, join, split
from mongars.cortex.holder import own_name
from mongars.cortex.leases import FREE, Leases
from mongars.cortex.listening import Listening
from mongars.cortex.performing import Performer, failed, problem_of
from mongars.cortex.prompt import Fitting
from mongars.cortex.recorder import Recorder
from mongars.cortex.run import Run
from mongars.cortex.settings import CortexSettings, LimitsSettings
from mongars.cortex.titles import KIND as TITLE
from mongars.cortex.titles import Titles
from mongars.cortex.turn import Options, Said, Turn
from mongars.database import SYSTEM, Database, Writing
from mongars.errors import Conflict, FieldFault, Invalid, Unavailable
from mongars.hippocampus import (
    add_message,
    add_messages,
    conversation,
    create_conversation,
    message,
    person_topic,
)
from mongars.ids import now
from mongars.jobs import Jobs
from mongars.llm import AnswerEvent, ChatMessage, LLMIntegration

log = structlog.get_logger()

STOP: Final = "cortex:stop"
BEGAN: Final = "cortex:began"
TRIES: Final = 2
"""How often a turn is performed before it is closed as interrupted."""
QUIET_S: Final = 2.0
"""How long nobody asks anything, in seconds, before something is done that nobody waits for."""
SURELY_SHORT: Final = 1000
"""Characters that fit into every model's context."""
COMPACT_AT_ONCE: Final = 200


class Cortex:
    """One turn of a conversation, from words in to words out: durable, streamed."""

    def __init__(
        self,
        settings: CortexSettings,
        limits: LimitsSettings,
        database: Database,
        bus: Bus,
        jobs: Jobs,
        llm: LLMIntegration,
    ) -> None:
        self.settings = settings
        self.limits = limits
        self.holder = own_name()
        self._database = database
        self._bus = bus
        self._jobs = jobs
        self._runs: dict[str, Run] = {}
        self._closing = False
        self._closed = False
        self._closing_topic = f"closing:{self.holder}"
        self._tasks: set[asyncio.Task[None]] = set()
        self._recorder = Recorder(
            database, bus, self.holder, settings.group_ms / 1000, self._at_the_end
        )
        self._fitting = Fitting(llm, settings.answer_tokens)
        self._performer = Performer(database, llm, self._recorder, self._fitting)
        self._leases = Leases(database, bus, self.holder, settings.lease_s, self._runs)
        self._beginning = Beginning(database, limits, self.holder, self._leases.lease)
        self._listening = Listening(
            database, bus, self._runs, self._closing_topic, lambda: self._closed
        )
        titles = Titles(database, llm, self._when_idle, self._until_busy, self._named)
        jobs.register(TITLE, titles.perform, at_once=1)

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls,
        settings: CortexSettings,
        limits: LimitsSettings,
        database: Database,
        bus: Bus,
        jobs: Jobs,
        llm: LLMIntegration,
    ) -> AsyncGenerator["Cortex"]:
        """Open it; on the way out, running turns are handed over."""
        cortex = cls(settings, limits, database, bus, jobs, llm)
        cortex._spawn(cortex._recorder.run())
        cortex._spawn(cortex._leases.keep(cortex._stop_here, cortex._recorder.lose))
        cortex._spawn(cortex._hear_stops())
        try:
            yield cortex
        finally:
            await cortex.wind_down(grace_s=0)
            for task in cortex._tasks:
                task.cancel()
            await asyncio.gather(*cortex._tasks, return_exceptions=True)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task of this cortex, which waits for it when it closes."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._gone)
        return task

    def _gone(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("cortex.task_broke", exc_info=error)

    # ---- beginning -----------------------------------------------------------------------

    async def say(
        self,
        owner_id: str,
        said: Said,
        *,
        conversation_id: str | None = None,
        options: Options = Options(),  # noqa: B008 - frozen
        client_id: str | None = None,
        key: Key | None = None,
        admitted: bool = False,
    ) -> Turn:
        """Keep a person's words and begin the answer to them.

        When this returns, words and turn are on disk. Raises `Missing` for another's conversation,
        `Conflict` (`turn-running`) while an answer is made in it, `Busy` over a limit, `Invalid`
        for words that are too long, and for a key that stands for another body.
        """
        self._checked(said.text)
        await self._refuse_too_long(owner_id, said.text, conversation_id, options)

        async def prepare(w: Writing) -> Prepared:
            if conversation_id is None:
                talk = await create_conversation(w, owner_id)
            else:
                talk = await conversation(w, owner_id, conversation_id)
            asked = new_message(
                talk.id, talk.active_leaf_id, "user", said.text, details=said.details()
            )
            answer = new_message(talk.id, asked.id, "assistant", state="writing")
            await add_messages(w, owner_id, (asked, answer))
            history = (asked,) if talk.active_leaf_id is None else None
            return Prepared(talk, asked.id, answer, history)

        return await self._begin(Wish(owner_id, "say", prepare, options, client_id, key, admitted))

    async def regenerate(
        self,
        owner_id: str,
        message_id: str,
        *,
        options: Options = Options(),  # noqa: B008
        client_id: str | None = None,
        key: Key | None = None,
    ) -> Turn:
        """Answer again: beside the answer named, or to the person's message named. Raises as `say`."""

        async def prepare(w: Writing) -> Prepared:
            named = await message(w, owner_id, message_id)
            asked_id = named.id if named.role == "user" else named.parent_id
            if asked_id is None:
                raise Conflict("There is nothing that this message answers.", slug="no-question")
            talk = await conversation(w, owner_id, named.conversation_id)
            answer = new_message(talk.id, asked_id, "assistant", state="writing")
            await add_message(w, owner_id, answer)
            return Prepared(talk, asked_id, answer)

        return await self._begin(Wish(owner_id, "regenerate", prepare, options, client_id, key))

    async def go_on(
        self,
        owner_id: str,
        message_id: str,
        *,
        options: Options = Options(),  # noqa: B008
        client_id: str | None = None,
        key: Key | None = None,
    ) -> Turn:
        """Go on with an answer where it ends, in a new message beside it. Raises as `say`."""

        async def prepare(w: Writing) -> Prepared:
            named = await message(w, owner_id, message_id)
            if named.role != "assistant" or named.parent_id is None:
                raise Conflict("Only an answer can be gone on with.", slug="not-an-answer")
            if named.state == "writing":
                raise Conflict("This answer is still being written.", slug="turn-running")
            talk = await conversation(w, owner_id, named.conversation_id)
            answer = new_message(talk.id, named.parent_id, "assistant", named.text, state="writing")
            await add_message(w, owner_id, answer)
            return Prepared(talk, named.parent_id, answer)

        return await self._begin(Wish(owner_id, "continue", prepare, options, client_id, key))

    async def edit(
        self,
        owner_id: str,
        message_id: str,
        said: Said,
        *,
        options: Options = Options(),  # noqa: B008
        client_id: str | None = None,
        key: Key | None = None,
    ) -> Turn:
        """Say it otherwise: a new branch beside the person's message. Raises as `say`."""
        self._checked(said.text)
        await self._refuse_too_long(owner_id, said.text, None, options)

        async def prepare(w: Writing) -> Prepared:
            named = await message(w, owner_id, message_id)
            if named.role != "user":
                raise Conflict("Only what you said yourself can be edited.", slug="not-yours")
            talk = await conversation(w, owner_id, named.conversation_id)
            details = said.details() if said.images else named.details
            asked = new_message(talk.id, named.parent_id, "user", said.text, details=details)
            answer = new_message(talk.id, asked.id, "assistant", state="writing")
            await add_messages(w, owner_id, (asked, answer))
            return Prepared(talk, asked.id, answer)

        return await self._begin(Wish(owner_id, "edit", prepare, options, client_id, key))

    async def admit(self, owner_id: str) -> None:
        """Count a message that is no turn. Raises `Busy` over the limit."""
        async with self._database.writing(owner_id) as w:
            await store.one_at_a_time(w, owner_id)
            await store.admit(w, owner_id, now(), self.limits.messages_per_minute)

    def _checked(self, text: str) -> None:
        most = self.limits.message_chars
        if not text.strip():
            fault = FieldFault(("body", "message"), "must not be empty")
            raise Invalid("There is nothing to say.", errors=[fault])
        if len(text) > most:
            fault = FieldFault(("body", "message"), f"must have at most {most:,} characters")
            raise Invalid("This message is too long.", slug="message-too-long", errors=[fault])

    async def _refuse_too_long(
        self, owner_id: str, text: str, conversation_id: str | None, options: Options
    ) -> None:
        """Raises `Invalid` (`too-long-for-model`) for words that no model in use could read."""
        if len(text) < SURELY_SHORT:
            return
        system_prompt, model = None, options.model
        if conversation_id is not None:
            async with self._database.reading(owner_id) as r:
                talk = await conversation(r, owner_id, conversation_id)
            system_prompt, model = talk.system_prompt, model or talk.model
        await self._fitting.refuse_too_long(text, system_prompt, model)

    async def _begin(self, wish: Wish) -> Turn:
        if self._closing:
            raise Unavailable(
                "monGARS is being stopped; try again in a moment.",
                slug="stopping",
                retry_after_s=5,
            )
        begun = await self._beginning.begin(wish)
        if isinstance(begun, Turn):
            return begun
        self._perform(*begun)
        return begun[0].turn

    def _announce(self, run: Run) -> None:
        owner_id = run.turn.owner_id
        begun = {"turn_id": run.turn.id, "conversation_id": run.turn.conversation_id}
        changed = {"what": "conversation", "id": run.turn.conversation_id}
        news = orjson.dumps({"turn": begun, "changed": changed})
        self._bus.publish(person_topic(owner_id), news)
        self._bus.publish(BEGAN, b"1")

    # ---- performing ----------------------------------------------------------------------

    def _perform(self, run: Run, group: bytes) -> None:
        run.told.append(group)
        self._runs[run.turn.id] = run
        self._announce(run)
        run.task = self._spawn(self._to_its_end(run))

    async def _to_its_end(self, run: Run) -> None:
        try:
            await self._performer.perform(run)
        except asyncio.CancelledError:
            if run.handing_over:
                await self._hand_over(run)
            elif not run.lost:
                raise
        except Exception:  # a turn is a unit of work that ends here; another look takes it over
            log.exception("cortex.turn_left", turn_id=run.turn.id)
        finally:
            run.over.set()
            self._runs.pop(run.turn.id, None)

    async def _hand_over(self, run: Run) -> None:
        """Write what is there and let the turn go."""
        group = run.take()
        with contextlib.suppress(Unavailable):
            async with self._database.writing(SYSTEM) as w:
                if group is not None and await store.holds(w, run.turn.id, self.holder):
                    lines = join(group.lines)
                    await store.add_events(w, run.turn, group.first_seq, group.last_seq, lines)
                await store.release(w, run.turn.id, self.holder)
        log.info("cortex.turn_handed_over", turn_id=run.turn.id)
        self._bus.publish(FREE, b"1")

    async def _at_the_end(self, w: Writing, run: Run) -> None:
        """What a finished answer causes, in the transaction that finishes it."""
        ending = run.ending
        if ending is None or not ending.name_conversation or not self.settings.titles:
            return
        await self._jobs.enqueue(
            w,
            TITLE,
            {"conversation_id": run.turn.conversation_id},
            owner_id=run.turn.owner_id,
            priority=-10,
            run_after=now() + timedelta(seconds=1),
            unique_key=run.turn.conversation_id,
        )

    # ---- taking over ---------------------------------------------------------------------

    async def take_over(self) -> None:
        """Take over the turns of processes that are gone, until cancelled (the worker does it)."""
        await self._leases.take_over(self._resume)

    def _resume(self, turn: Turn) -> None:
        run = Run(turn, Options(**turn.options), started_kept=turn.state == "running")
        self._runs[turn.id] = run
        run.task = self._spawn(self._to_its_end_again(run))

    async def _to_its_end_again(self, run: Run) -> None:
        """Go on with a turn that another process began: from its start, at most once."""
        turn = run.turn
        try:
            async with self._database.reading(SYSTEM) as r:
                groups = await store.groups(r, turn.id, 0)
        except Unavailable:  # the lease ends, and the next look finds it again
            self._runs.pop(turn.id, None)
            return
        run.told = groups
        _remember(run, [event for group in groups for event in split(group)])
        run.stop_asked = turn.stop_asked
        if turn.attempts > TRIES and not turn.stop_asked:
            ended = Unavailable(
                "The server ended while this was answered. Go on with it, or have it made again.",
                slug="interrupted",
            )
            self._performer.end(run, failed(run, problem_of(ended), "interrupted"))
            await run.over.wait()
            self._runs.pop(turn.id, None)
            return
        if run.text and not turn.stop_asked:
            self._recorder.add(run, Reset(""))
            run.text = []
        await self._to_its_end(run)

    # ---- stopping ------------------------------------------------------------------------

    async def stop(self, owner_id: str, turn_id: str) -> Turn:
        """Have a turn end with what it has said so far; one that is over stays as it is.

        Raises `Missing`.
        """
        async with self._database.writing(owner_id) as w:
            turn = await store.get(w, owner_id, turn_id)
            if not turn.active:
                return turn
            await store.ask_to_stop(w, owner_id, turn_id)
        run = self._runs.get(turn_id)
        if run is None:
            self._bus.publish(STOP, turn_id.encode())
        else:
            self._stop_here(turn_id)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await run.over.wait()
        return await self.turn(owner_id, turn_id)

    def _stop_here(self, turn_id: str) -> None:
        run = self._runs.get(turn_id)
        if run is None or run.stop_asked or run.ending is not None or run.task is None:
            return
        run.stop_asked = True
        run.task.cancel()

    async def _hear_stops(self) -> None:
        async with self._bus.subscribe(STOP) as asked:
            while True:
                if turn_id := await asked.get():
                    self._stop_here(turn_id.decode())

    # ---- looking and following -----------------------------------------------------------

    async def turn(self, owner_id: str, turn_id: str) -> Turn:
        """One turn. Raises `Missing`."""
        async with self._database.reading(owner_id) as r:
            return await store.get(r, owner_id, turn_id)

    def listen(self, owner_id: str, turn_id: str, after: int = 0) -> AsyncGenerator[Event, None]:
        """The events of a turn behind `after`, as they come; see `Listening.listen`."""
        return self._listening.listen(owner_id, turn_id, after)

    async def answer_in(
        self,
        owner_id: str,
        conversation_id: str,
        said: ChatMessage,
        *,
        model: str | None = None,
        temperature: float | None = None,
    ) -> AsyncGenerator[AnswerEvent, None]:
        """Say something that was admitted already, for a caller who speaks with models: what the
        model says, as it is committed. Closing this stops the turn. Raises as `say`, and the
        fault that the turn failed with.
        """
        turn = await self.say(
            owner_id,
            Said(said.text, said.images),
            conversation_id=conversation_id,
            options=Options(model=model, temperature=temperature),
            admitted=True,
        )
        ended = False
        try:
            async with contextlib.aclosing(self.listen(owner_id, turn.id)) as events:
                async for event in events:
                    ended = event.ends
                    if (told := as_answer(event)) is not None:
                        yield told
        finally:
            if not ended:
                await self.stop(owner_id, turn.id)

    async def active_turns(self, owner_id: str) -> list[tuple[str, str]]:
        """Turn and conversation of each answer that is being made for a person."""
        async with self._database.reading(owner_id) as r:
            return [(row.id, row.conversation_id) for row in await store.active(r, owner_id)]

    # ---- ending --------------------------------------------------------------------------

    @property
    def closing(self) -> bool:
        """Whether this process was asked to stop."""
        return self._closing

    async def wind_down(self, grace_s: float | None = None) -> None:
        """Begin nothing more, let running turns end for a while, hand the others over; then all
        streams end, so that the server can stop."""
        self._closing = self._leases.leaving = True
        running = [run for run in self._runs.values() if not run.over.is_set()]
        grace_s = self.settings.grace_s if grace_s is None else grace_s
        if running and grace_s > 0:
            await asyncio.wait(
                [asyncio.ensure_future(run.over.wait()) for run in running], timeout=grace_s
            )
        tasks = [task for run in running if (task := run.task) is not None and not task.done()]
        for run in running:
            if run.task is not None and run.ending is None:
                run.handing_over = True
                run.task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=3)
        self._closed = True
        self._bus.publish(self._closing_topic, b"")

    def _named(self, owner_id: str, conversation_id: str) -> None:
        changed = {"what": "conversation", "id": conversation_id}
        self._bus.publish(person_topic(owner_id), orjson.dumps({"changed": changed}))

    async def _when_idle(self) -> None:
        """Until no answer is being made anywhere, and none began for a little while."""
        async with self._bus.subscribe(BEGAN) as began:
            while True:
                while await began.get(QUIET_S) is not None:
                    pass
                async with self._database.reading(SYSTEM) as r:
                    if not await store.any_active(r):
                        return

    async def _until_busy(self) -> None:
        """Until an answer begins to be made somewhere."""
        async with self._bus.subscribe(BEGAN) as began:
            while await began.get() is None:
                pass

    async def sweep(self, at: datetime) -> None:
        """Remove what has had its time: single events, keys, counts."""
        async with self._database.writing(SYSTEM) as w:
            await store.sweep(w, at - KEY_LASTS, at - timedelta(minutes=2))
        before = at - timedelta(hours=self.settings.events_hours)
        while True:
            async with self._database.writing(SYSTEM) as w:
                ended = await store.ended_before(w, before, COMPACT_AT_ONCE)
                for turn in ended:
                    group, last_seq = compacted(turn.id, await store.groups(w, turn.id, 0))
                    await store.compact(w, turn, group, last_seq)
            if len(ended) < COMPACT_AT_ONCE:
                return


def _remember(run: Run, events: Sequence[Event]) -> None:
    """Bring a run to where its stored events end."""
    for event in events:
        run.seq = event.seq
        if event.type == "delta":
            run.text.append(event.facts()["text"])
        elif event.type == "reset":
            run.text = [event.facts()["text"]]
        elif event.type == "started":
            run.started, run.model = True, event.facts()["model"]
