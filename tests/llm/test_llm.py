"""Who answers: choosing, routing, waiting, remembering."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from mongars.cache import CacheSettings, TieredCache
from mongars.circuit import CircuitSettings
from mongars.errors import Fault, Invalid, Missing, NotBuilt, NotConfigured, Unavailable
from mongars.llm import (
    AnswerEvent,
    ChatMessage,
    ChatRequest,
    Finished,
    LLMIntegration,
    LLMSettings,
    ModelCard,
    Notice,
    Reading,
    Started,
    Text,
    Thinking,
    Waiting,
)
from mongars.llm.library import Library
from mongars.testing.models import ScriptedModel
from mongars.testing.ollama import OllamaModel, OllamaServer
from tests.servers import free_port

TWIN = "mongars.testing.models:ScriptedModel"
CIRCUIT = CircuitSettings(failures=2, open_s=60)


def asked(text: str = "one two", owner: str = "alice", **parameters: Any) -> ChatRequest:
    return ChatRequest((ChatMessage("user", text),), owner, **parameters)


async def events_of(llm: LLMIntegration, request: ChatRequest) -> list[AnswerEvent]:
    async with aclosing(llm.answer(request)) as events:
        return [event async for event in events]


async def fault_of(llm: LLMIntegration, request: ChatRequest) -> Fault:
    with pytest.raises(Fault) as caught:
        await events_of(llm, request)
    return caught.value


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def opened(
    tmp_path: Path, cache: TieredCache | None = None, **settings: Any
) -> AsyncGenerator[LLMIntegration]:
    values = {"backend": TWIN, "check_interval_s": 0.05, **settings}
    async with LLMIntegration.open(LLMSettings(**values), CIRCUIT, tmp_path, cache) as llm:
        yield llm


def twin_of(llm: LLMIntegration) -> ScriptedModel:
    model = llm._backends.opened["scripted"].model
    assert isinstance(model, ScriptedModel)
    return model


@pytest.fixture
async def llm(tmp_path: Path) -> AsyncIterator[LLMIntegration]:
    async with opened(tmp_path) as made:
        yield made


@pytest.fixture
async def cache(tmp_path: Path) -> AsyncIterator[TieredCache]:
    async with TieredCache.open(CacheSettings(disk_bytes=0), tmp_path, None) as made:
        yield made


async def test_an_answer_says_first_which_model_gives_it(llm):
    events = await events_of(llm, asked("[[think hmm]] [[read 1]] one two"))
    assert events[:-1] == [
        Started("scripted/twin"),
        Reading(6, 6),
        Thinking("hmm"),
        Text("one"),
        Text(" two"),
    ]
    assert isinstance(events[-1], Finished)


@pytest.mark.parametrize("name", ["scripted/twin", "twin", None])
async def test_a_model_is_named_fully_barely_or_not_at_all(llm, name):
    assert (await events_of(llm, asked(model=name)))[0] == Started("scripted/twin")


@pytest.mark.parametrize("name", ["scripted/other", "other", "Owner/other"])
async def test_an_unknown_model_is_missing(llm, name):
    assert isinstance(await fault_of(llm, asked(model=name)), Missing)


async def test_a_model_that_refuses_is_passed_on_and_opens_no_circuit(llm):
    for _ in range(4):
        assert isinstance(await fault_of(llm, asked("[[refuse]]")), Invalid)
    assert llm.status().circuits == {"scripted": "closed"}
    assert isinstance((await events_of(llm, asked()))[-1], Finished)


async def test_once_its_circuit_is_open_a_model_that_is_away_is_told_at_once(llm):
    for _ in range(2):
        assert isinstance(await fault_of(llm, asked("[[fail 1]]")), Unavailable)
    assert llm.status().circuits == {"scripted": "open"}
    assert llm.status().state == "away"
    began = time.perf_counter()
    fault = await fault_of(llm, asked())
    assert time.perf_counter() - began < 0.05
    assert isinstance(fault, Unavailable)
    assert fault.retry_after_s is not None
    assert fault.retry_after_s > 50
    assert "broke off" in fault.detail
    assert len(twin_of(llm).requests) == 2


async def test_an_open_circuit_is_told_at_once_also_while_all_seats_are_taken(tmp_path):
    async with (
        opened(tmp_path, seats=2) as llm,
        aclosing(llm.answer(asked("[[hold]] x", "a"))) as first,
    ):
        await anext(first)
        for _ in range(2):
            await fault_of(llm, asked("[[fail 0]]", "b"))
        async with asyncio.timeout(1):
            assert isinstance(await fault_of(llm, asked(owner="a")), Unavailable)


async def test_who_waits_is_told_the_place_and_people_take_turns(tmp_path):
    async with opened(tmp_path, seats=1) as llm:
        order: list[str] = []
        places: list[int] = []

        async def ask(name: str) -> None:
            async with aclosing(llm.answer(asked(f"[[words 1]] {name}", name[0]))) as events:
                async for event in events:
                    if isinstance(event, Waiting) and name == "b1":
                        places.append(event.position)
                    if isinstance(event, Started):
                        order.append(name)

        async with aclosing(llm.answer(asked("[[hold]] x", "z"))) as holding:
            async for event in holding:
                if isinstance(event, Text):
                    break
            tasks = []
            for name in ("a1", "a2", "b1"):
                tasks.append(asyncio.create_task(ask(name)))
                await asyncio.sleep(0.01)
        async with asyncio.timeout(5):
            await asyncio.gather(*tasks)
    assert order == ["a1", "b1", "a2"]
    assert places == [2, 1]


async def test_closing_an_answer_stops_the_model_and_frees_the_seat(tmp_path):
    async with opened(tmp_path, seats=1) as llm:
        for _ in range(3):
            async with aclosing(llm.answer(asked("[[hold]] x"))) as events:
                async for event in events:
                    if isinstance(event, Text):
                        break
            assert twin_of(llm).active == 0
        assert isinstance((await events_of(llm, asked()))[-1], Finished)


@pytest.mark.model
@pytest.mark.slow
async def test_while_the_chosen_one_is_away_the_next_answers_and_says_so(tmp_path):
    settings = {
        "backend": "ollama",
        "url": f"http://127.0.0.1:{free_port()}",
        "model": "big",
        "fallbacks": ("embedded/no-such-file", "embedded"),
    }
    async with opened(tmp_path, **settings) as llm:
        # Who names a model gets that one or none.
        assert isinstance(await fault_of(llm, asked(model="ollama/big")), Unavailable)
        events = await events_of(llm, asked("hello", max_tokens=4))
        place = events.index(Started("embedded/SmolLM2-135M-Instruct"))
        told = events[place - 1]
        assert isinstance(told, Notice)
        assert "answers instead of ollama/big" in told.text
        assert "`ollama serve`" in told.text
        await until(lambda: llm.status().state == "degraded")


async def test_an_answer_that_began_is_never_continued_by_another_model(tmp_path):
    async with opened(tmp_path, fallbacks=("ollama",)) as llm:
        fault = await fault_of(llm, asked("[[fail 1]] one two"))
        assert "scripted model broke off" in fault.detail
        assert "ollama" not in llm._backends.opened


async def test_when_nobody_can_answer_each_is_named_with_what_to_do(tmp_path):
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    async with opened(tmp_path, backend="ollama", url=url, model="x", fallbacks=("openai",)) as llm:
        fault = await fault_of(llm, asked())
        assert isinstance(fault, Unavailable)
        assert "`ollama serve`" in fault.detail
        assert "MONGARS_LLM__URL=http" in fault.detail
        await until(lambda: llm.status().detail != "")
        assert llm.status().state == "degraded"


async def test_auto_takes_an_ollama_that_has_a_chat_model(tmp_path):
    models = {
        "embedder": OllamaModel("embedder", capabilities=("embedding",)),
        "small": OllamaModel("small"),
    }
    async with (
        OllamaServer(models) as ollama,
        opened(tmp_path, backend="auto", url=ollama.url) as llm,
    ):
        status = llm.status()
        assert (status.backend, status.model, status.state) == ("ollama", "small", "ready")
        assert ollama.url in status.why
        assert (await events_of(llm, asked()))[0] == Started("ollama/small")


@pytest.mark.model
@pytest.mark.slow
async def test_auto_without_ollama_is_embedded_and_a_later_ollama_is_told_not_taken(tmp_path):
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    async with opened(tmp_path, backend="auto", url=url) as llm:
        assert llm.status().state == "loading"
        assert "does not answer" in llm.status().why
        events = await events_of(llm, asked("hello", max_tokens=4))
        assert isinstance(events[0], Notice)  # it is being loaded
        assert Started("embedded/SmolLM2-135M-Instruct") in events
        assert llm.status().state == "ready"
        assert await llm.context_tokens() == 4096
        assert (await llm.count((ChatMessage("user", "hello"),)) or 0) > 0
        async with OllamaServer({"small": OllamaModel("small")}, port=port):
            await until(lambda: "mongars models use ollama/small" in llm.status().detail)
            assert (llm.status().backend, llm.status().state) == ("embedded", "ready")
            names = [card.full_name for card in await llm.models()]
            assert names == ["embedded/SmolLM2-135M-Instruct", "ollama/small"]


async def test_a_choice_made_by_hand_is_followed_while_running_and_kept(tmp_path):
    async with OllamaServer(
        {"small": OllamaModel("small"), "other": OllamaModel("other")}
    ) as ollama:
        async with opened(tmp_path, backend="ollama", url=ollama.url, model="small") as llm:
            Library(tmp_path).use("ollama/other")
            assert (await events_of(llm, asked()))[0] == Started("ollama/other")
            assert llm.status().model == "other"
            for name in ("ollama/none", "none"):
                with pytest.raises(Missing):
                    await llm.use(name)
        async with opened(tmp_path, backend="ollama", url=ollama.url, model="small") as llm:
            assert (llm.status().model, llm.status().why) == ("other", "chosen by hand")
            Library(tmp_path).use("auto")
            assert (await events_of(llm, asked()))[0] == Started("ollama/small")


async def test_a_damaged_choice_does_not_keep_it_from_opening(tmp_path):
    (tmp_path / "model.json").write_text("{")
    async with opened(tmp_path) as llm:
        assert isinstance((await events_of(llm, asked()))[-1], Finished)


async def test_a_server_that_comes_back_is_tried_at_once(tmp_path):
    async with opened(tmp_path) as llm:
        twin = twin_of(llm)
        twin.away = True
        for _ in range(3):
            await fault_of(llm, asked())
        await until(lambda: llm._backends.opened["scripted"].trouble != "")
        assert llm.status().state == "away"
        twin.away = False
        await until(lambda: llm.status().state == "ready")
        assert isinstance((await events_of(llm, asked()))[-1], Finished)


@pytest.mark.parametrize(
    ("backend", "kind"),
    [
        ("ray", NotBuilt),
        ("openai", NotConfigured),
        ("no.such.module:Class", NotConfigured),
        ("mongars.testing.models:NoSuchClass", NotConfigured),
    ],
)
async def test_a_wrong_backend_is_told_when_it_is_opened(tmp_path, backend, kind):
    with pytest.raises(kind):
        async with opened(tmp_path, backend=backend):
            pytest.fail("there is nothing to open")


async def test_an_embedded_model_that_is_not_there_is_told_by_status_and_requests(tmp_path):
    async with opened(tmp_path, backend="embedded", model="gone") as llm:
        status = llm.status()
        assert (status.state, status.backend) == ("away", "embedded")
        assert "mongars models pull" in status.detail
        assert isinstance(await fault_of(llm, asked()), Missing)
        assert await llm.models() == []


async def test_an_exact_answer_is_made_once_for_its_owner_and_never_shared(tmp_path, cache):
    async with opened(tmp_path, cache) as llm:
        twin = twin_of(llm)
        exact = asked("[[think hmm]] one two", temperature=0.0)
        first = await events_of(llm, exact)
        assert await events_of(llm, exact) == first
        assert len(twin.requests) == 1
        for other in (
            replace(exact, owner_id="bob"),
            replace(exact, temperature=0.1),
            replace(exact, max_tokens=1),
            replace(exact, extra={"tools": []}),
        ):
            before = len(twin.requests)
            await events_of(llm, other)
            assert len(twin.requests) == before + 1
        assert isinstance(twin.card, ModelCard)
        twin.card = replace(twin.card, digest="sha256:new-weights")
        before = len(twin.requests)
        await events_of(llm, exact)
        assert len(twin.requests) == before + 1
        await cache.forget("alice")
        await events_of(llm, exact)
        assert len(twin.requests) == before + 2


async def test_an_answer_that_broke_off_is_not_remembered(tmp_path, cache):
    async with opened(tmp_path, cache) as llm:
        for _ in range(2):
            await fault_of(llm, asked("[[fail 1]] one two", temperature=0.0))
        assert len(twin_of(llm).requests) == 2


async def test_capabilities_are_asked_once_for_the_same_weights(tmp_path, cache):
    async with opened(tmp_path, cache) as llm:
        told = await llm.capabilities("scripted/twin")
        assert (told.context_tokens, told.json_schema, told.tools) == (100_000, True, False)
        twin_of(llm).context_tokens = 5
        assert await llm.capabilities("scripted/twin") == told
    async with opened(tmp_path, cache) as llm:
        twin_of(llm).context_tokens = 5
        assert await llm.capabilities("scripted/twin") == told
        twin_of(llm).card = replace(twin_of(llm).card, digest="new")
        assert (await llm.capabilities("scripted/twin")).context_tokens == 5


async def test_requests_and_first_tokens_are_measured(tmp_path, monkeypatch):
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    monkeypatch.setattr(metrics, "get_meter", provider.get_meter)
    async with opened(tmp_path) as llm:
        await events_of(llm, asked())
        await fault_of(llm, asked("[[refuse]]"))
        await fault_of(llm, asked("[[fail 1]]"))
        async with aclosing(llm.answer(asked("[[hold]] x"))) as events:
            await anext(events)
        data = reader.get_metrics_data()
    assert data is not None
    found = {m.name: m.data for m in data.resource_metrics[0].scope_metrics[0].metrics}
    counted = {p.attributes["outcome"]: p.value for p in found["mongars.llm.requests"].data_points}
    assert counted == {"ok": 1, "refused": 1, "unavailable": 1, "stopped": 1}
    assert found["mongars.llm.first_token"].data_points[0].attributes == {"backend": "scripted"}
    provider.shutdown()
