from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from mongars.circuit import CircuitSettings
from mongars.errors import Conflict, Invalid, Missing
from mongars.llm import ChatMessage, ChatRequest, Finished, LLMIntegration, Started
from mongars.llm.library import BUILT_IN, built_in_path
from mongars.llm.models import Models, ollama_url
from mongars.llm.settings import LLMSettings
from mongars.testing.hub import HubRepository, HubServer, tiny_gguf
from mongars.testing.ollama import OllamaModel, OllamaServer

REPOSITORY = "maker/Small-GGUF"


@pytest.fixture
async def ollama() -> AsyncIterator[OllamaServer]:
    models = [OllamaModel("chat:1b"), OllamaModel("embed:latest", ("embedding",))]
    async with OllamaServer({model.name: model for model in models}) as server:
        yield server


@asynccontextmanager
async def opened(data_dir: Path, ollama: OllamaServer) -> AsyncIterator[Models]:
    repositories = {REPOSITORY: HubRepository({"small-Q4_K_M.gguf": tiny_gguf()})}
    async with HubServer(repositories) as hub:
        settings = LLMSettings(url=ollama.url, hub_url=hub.url, disk_reserve_bytes=0)
        async with Models.open(settings, data_dir) as models:
            yield models


async def progress(done: int, total: int | None) -> None: ...


async def names(models: Models) -> dict[str, bool]:
    return {one.card.full_name: one.removable for one in (await models.inventory()).installed}


async def test_what_is_here_and_what_ollama_has_are_one_list(tmp_path, ollama):
    async with opened(tmp_path, ollama) as models:
        await models.downloads.pull(REPOSITORY, progress=progress)
        assert await names(models) == {
            f"embedded/{BUILT_IN}": False,
            "embedded/small-Q4_K_M": True,
            "ollama/chat:1b": True,
            "ollama/embed:latest": True,
        }


async def test_without_ollama_the_list_says_so_and_tells_the_rest(tmp_path, ollama):
    async with opened(tmp_path, ollama) as models:
        await ollama.__aexit__(None, None, None)
        inventory = await models.inventory()
    assert [one.card.name for one in inventory.installed] == [BUILT_IN]
    assert "ollama serve" in inventory.notices[0]


async def test_a_model_is_pulled_through_ollama_used_and_kept_while_in_use(tmp_path, ollama):
    ollama.pullable["new:1b"] = OllamaModel("new:1b")
    async with opened(tmp_path, ollama) as models:
        await models.downloads.pull("ollama/new:1b", progress=progress)
        await models.use("ollama/new:1b")
        assert models.library.in_use() == "ollama/new:1b"
        with pytest.raises(Conflict):
            await models.remove("ollama/new:1b")
        await models.use("auto")
        await models.remove("ollama/new:1b")
    assert "new:1b" not in ollama.models


async def test_what_ollama_has_not_or_cannot_chat_is_not_used(tmp_path, ollama):
    async with opened(tmp_path, ollama) as models:
        with pytest.raises(Missing, match="models pull"):
            await models.use("ollama/nothing")
        with pytest.raises(Invalid, match="vectors"):
            await models.use("ollama/embed")
        with pytest.raises(Invalid, match="no backend"):
            await models.use("olama/chat:1b")
        assert models.library.in_use() is None


async def test_a_file_is_removed_and_another_servers_model_is_not(tmp_path, ollama):
    async with opened(tmp_path, ollama) as models:
        await models.downloads.pull(REPOSITORY, progress=progress)
        await models.remove("embedded/small-Q4_K_M")
        assert "embedded/small-Q4_K_M" not in await names(models)
        with pytest.raises(Conflict):
            await models.remove("openai/gpt")
        with pytest.raises(Invalid):
            await models.remove("small-Q4_K_M")


@pytest.mark.model
async def test_a_real_model_that_was_pulled_and_chosen_answers(tmp_path):
    real = built_in_path()
    assert real is not None
    repositories = {"maker/Real-GGUF": HubRepository({"real-Q4_1.gguf": real})}
    async with HubServer(repositories) as hub:
        settings = LLMSettings(hub_url=hub.url, disk_reserve_bytes=0)
        async with Models.open(settings, tmp_path) as models:
            card = await models.downloads.pull("maker/Real-GGUF", progress=progress)
            await models.use(card.full_name)
    request = ChatRequest((ChatMessage("user", "Hello"),), owner_id="alice", max_tokens=4)
    settings = LLMSettings(backend="embedded")
    async with (
        LLMIntegration.open(settings, CircuitSettings(), tmp_path) as llm,
        aclosing(llm.answer(request)) as events,
    ):
        answer = [event async for event in events]
    assert Started("embedded/real-Q4_1") in answer
    assert isinstance(answer[-1], Finished)
    assert answer[-1].usage.completion_tokens > 0


async def test_recommendations_fit_this_machine(tmp_path, ollama):
    async with opened(tmp_path, ollama) as models:
        assert all(one.fits for one in models.recommended())
        assert len(models.recommended(all_models=True)) >= 6


def test_the_address_of_another_kind_of_server_is_not_taken_for_ollamas():
    url = "http://10.0.0.1:8080"
    assert ollama_url(LLMSettings(backend="ollama", url=url)) == url
    assert ollama_url(LLMSettings(backend="openai", url=url)) == ollama_url(LLMSettings())
