"""`mongars models` without a running server: straight on the data directory."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from mongars.cli.models import app
from mongars.cli.state import State
from mongars.errors import Conflict, Invalid
from mongars.llm.library import BUILT_IN
from mongars.testing.hub import HubRepository, HubServer, tiny_gguf
from mongars.testing.ollama import OllamaModel, OllamaServer

REPOSITORY = "maker/Small-GGUF"


@contextmanager
def in_a_thread(server: AbstractAsyncContextManager[Any]) -> Iterator[Any]:
    """An asynchronous server for synchronous callers, in a loop of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def wait(coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(10)

    try:
        yield wait(server.__aenter__())
        wait(server.__aexit__(None, None, None))
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture
def hub() -> Iterator[HubServer]:
    repositories = {REPOSITORY: HubRepository({"small-Q4_K_M.gguf": tiny_gguf()})}
    with in_a_thread(HubServer(repositories)) as hub:
        yield hub


@pytest.fixture
def ollama() -> Iterator[OllamaServer]:
    pullable = {"new:1b": OllamaModel("new:1b")}
    with in_a_thread(OllamaServer(pullable=pullable)) as ollama:
        yield ollama


@pytest.fixture
def state(hub: HubServer, ollama: OllamaServer, tmp_path: Path) -> State:
    (tmp_path / "mongars.toml").write_text(
        f'[llm]\nurl = "{ollama.url}"\nhub_url = "{hub.url}"\ndisk_reserve_bytes = 0\n'
    )
    return State(data=tmp_path)


def mongars(state: State, *arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), obj=state)


def said(state: State, *arguments: str) -> str:
    result = mongars(state, *arguments)
    assert result.exit_code == 0, result.exception
    return result.stdout


def ids(state: State) -> list[str]:
    told = json.loads(said(state, "list", "--json"))
    return [one["id"] for one in told["items"]]


def test_the_list_shows_what_is_here_and_what_would_be_better(state):
    shown = said(state, "list")
    assert f"embedded/{BUILT_IN}" in shown
    assert "ollama/llama3.2:1b" in shown
    assert "apache-2.0" in shown
    assert "mongars models pull" in shown


def test_a_pull_without_a_yes_shows_the_licence_and_adds_nothing(state):
    result = mongars(state, "pull", REPOSITORY)
    assert isinstance(result.exception, Invalid)
    assert "licence apache-2.0" in result.exception.detail
    assert "embedded/small-Q4_K_M" not in ids(state)


def test_a_model_is_added_chosen_kept_while_in_use_and_removed(state):
    added = json.loads(said(state, "pull", REPOSITORY, "--yes", "--json"))
    assert added["model"] == "embedded/small-Q4_K_M"
    said(state, "use", added["model"])
    assert json.loads(said(state, "list", "--json"))["in_use"] == added["model"]
    assert isinstance(mongars(state, "rm", added["model"], "--yes").exception, Conflict)
    said(state, "use", "auto")
    said(state, "rm", added["model"], "--yes")
    assert added["model"] not in ids(state)


def test_ollama_downloads_what_is_asked_of_it(state):
    assert "ollama/new:1b" in said(state, "pull", "ollama/new:1b", "--yes")
    assert "ollama/new:1b" in ids(state)
