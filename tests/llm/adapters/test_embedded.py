"""The model in a child process: loading, dying, being replaced, ending."""

import asyncio
import os
import signal
import stat
import sys
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

import aiohttp
import psutil
import pytest

from mongars.errors import Missing, NotConfigured, Unavailable
from mongars.llm import ChatMessage, ChatRequest, Finished, LLMSettings, Reading, Text
from mongars.llm.adapters.embedded import Embedded
from mongars.llm.adapters.gguf import trained_context
from mongars.llm.adapters.llama_process import Orders, _raise_when_hopeless
from mongars.llm.library import BUILT_IN, built_in_path
from mongars.testing.hub import tiny_gguf

HELLO = ChatRequest((ChatMessage("user", "What is the capital of Japan?"),), "a", max_tokens=8)
LONG = ChatRequest((ChatMessage("user", "Tell a long story."),), "a", max_tokens=3000)


async def until(true: Callable[[], bool], within_s: float = 15) -> None:
    async with asyncio.timeout(within_s):
        while not true():
            await asyncio.sleep(0.01)


async def answer(model: Embedded, request: ChatRequest = HELLO) -> Finished:
    async with aclosing(model.stream(request)) as events:
        last = [event async for event in events][-1]
    assert isinstance(last, Finished)
    return last


@pytest.mark.model
@pytest.mark.slow
async def test_it_loads_behind_opening_dies_comes_back_and_leaves_nothing(tmp_path: Path) -> None:
    async with Embedded.open(LLMSettings(), tmp_path) as model:
        assert model.health.state == "loading"
        assert BUILT_IN in model.health.detail
        await answer(model)  # waits until it is loaded
        assert model.health.state == "ready"
        (folder,) = (tmp_path / "run").iterdir()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700

        first = model.pid
        assert first is not None
        async with aclosing(model.stream(LONG)) as events:
            async for event in events:
                if isinstance(event, Text):
                    os.kill(first, signal.SIGKILL)
                    break
            with pytest.raises(Unavailable):
                [event async for event in events]
        await until(lambda: model.health.state == "restarting")
        assert "signal 9" in model.health.detail
        await answer(model)
        assert model.health.state == "ready"
        second = model.pid
        assert second not in (None, first)
    assert second is not None
    assert not psutil.pid_exists(second)
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.model
@pytest.mark.slow
async def test_nobody_without_the_key_is_answered_and_the_key_is_not_shown(tmp_path: Path) -> None:
    async with Embedded.open(LLMSettings(), tmp_path) as model:
        await model.ready()
        (folder,) = (tmp_path / "run").iterdir()
        connector = aiohttp.UnixConnector(str(folder / "llm.sock"))
        body = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 1}
        async with aiohttp.ClientSession(connector=connector) as http:
            for headers in ({}, {"Authorization": "Bearer wrong"}):
                url = "http://model/v1/chat/completions"
                async with http.post(url, json=body, headers=headers) as refused:
                    assert refused.status == 401
                    assert not refused.headers.get("Access-Control-Allow-Origin")
        assert model.pid is not None
        child = psutil.Process(model.pid)
        assert len(child.cmdline()) == 3
        assert not any(name.startswith("MONGARS_") for name in child.environ())


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.parametrize("while_reading", [True, False])
async def test_closing_frees_the_slot_while_it_reads_and_while_it_writes(
    tmp_path: Path, while_reading: bool
) -> None:
    settings = LLMSettings(seats=1)
    text = "word " * 3500 if while_reading else "Tell a long story."
    request = ChatRequest((ChatMessage("user", text),), "a", max_tokens=2000)
    async with Embedded.open(settings, tmp_path) as model:
        await model.ready()
        async with aclosing(model.stream(request)) as events:
            async for event in events:
                if isinstance(event, Reading if while_reading else Text):
                    break
        async with asyncio.timeout(10):  # reading to the end would take half a minute
            await answer(model)


@pytest.mark.model
@pytest.mark.slow
async def test_it_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    code = (
        "import asyncio, pathlib, sys\n"
        "from mongars.llm import LLMSettings\n"
        "from mongars.llm.adapters.embedded import Embedded\n"
        "async def main():\n"
        "    async with Embedded.open(LLMSettings(), pathlib.Path(sys.argv[1])) as model:\n"
        "        await model.ready()\n"
        "        print(model.pid, flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    line = b""
    async with asyncio.timeout(30):
        while not line.strip().isdigit():
            line = await parent.stdout.readline()
            assert line, "the parent ended"
    child = int(line)
    parent.kill()
    await parent.wait()
    await until(lambda: not psutil.pid_exists(child))
    (left,) = (tmp_path / "run").iterdir()
    async with Embedded.open(LLMSettings(), tmp_path) as model:
        assert not left.exists()
        await model.ready()


@pytest.mark.model
@pytest.mark.slow
async def test_a_model_is_replaced_by_another_and_the_path_may_be_long(tmp_path: Path) -> None:
    source = built_in_path()
    assert source is not None
    data_dir = tmp_path / ("deep" * 30)
    (data_dir / "models").mkdir(parents=True)
    (data_dir / "models" / "other.gguf").symlink_to(source)
    async with Embedded.open(LLMSettings(), data_dir) as model:
        await model.ready()
        with pytest.raises(Missing, match="mongars models use embedded/other"):
            await answer(model, ChatRequest(HELLO.messages, "a", model="other"))
        with pytest.raises(Missing):
            await model.use("no-such-model")
        await model.use("other")
        assert model.health.state == "loading"
        await answer(model, ChatRequest(HELLO.messages, "a", model="other", max_tokens=4))
        assert [card.name for card in await model.models()] == ["other"]
        assert not (data_dir / "run").exists()


@pytest.mark.model
@pytest.mark.slow
async def test_a_damaged_file_is_told_and_another_model_can_take_its_place(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "damaged.gguf").write_bytes(tiny_gguf())
    async with Embedded.open(LLMSettings(model="damaged"), tmp_path) as model:
        with pytest.raises(Unavailable, match="damaged"):
            await answer(model)
        assert model.health.state == "failed"
        with pytest.raises(Unavailable):
            await model.models()
        await model.use(BUILT_IN)
        await answer(model)


@pytest.mark.model
async def test_a_request_waits_for_loading_only_so_long(tmp_path: Path) -> None:
    async with Embedded.open(LLMSettings(load_timeout_s=0.05), tmp_path) as model:
        with pytest.raises(Unavailable) as caught:
            await answer(model)
    assert caught.value.problem == "model-loading"
    assert caught.value.retry_after_s


@pytest.mark.parametrize(
    ("told", "kind", "command"),
    [
        (
            {"error": "import", "detail": "libgomp.so.1: cannot open shared object file"},
            NotConfigured,
            "sudo apt-get install libgomp1",
        ),
        (
            {"error": "import", "detail": "No module named 'xllamacpp'"},
            NotConfigured,
            "pip install",
        ),
        ({"error": "load", "detail": "Failed to init server"}, Unavailable, "mongars models use"),
    ],
)
def test_what_trying_again_does_not_mend_names_the_command_that_does(told, kind, command):
    with pytest.raises(kind, match=command):
        _raise_when_hopeless(told, Orders(Path("m.gguf"), "m", 1, 1, 1, 1, 1))


async def test_a_path_that_is_not_there_is_told_before_anything_starts(tmp_path: Path) -> None:
    settings = LLMSettings(model=str(tmp_path / "absent.gguf"))
    with pytest.raises(NotConfigured, match="MONGARS_LLM__MODEL"):
        async with Embedded.open(settings, tmp_path):
            pytest.fail("there is nothing to load")
    with pytest.raises(Missing):
        async with Embedded.open(LLMSettings(model="unknown"), tmp_path):
            pytest.fail("there is nothing to load")


def test_the_trained_context_is_read_from_the_file(tmp_path: Path) -> None:
    source = built_in_path()
    assert source is not None
    assert trained_context(source) == 8192
    for content in (b"", b"GGUF", b"GGUF" + b"\xff" * 40, b"no model at all"):
        (tmp_path / "wrong.gguf").write_bytes(content)
        assert trained_context(tmp_path / "wrong.gguf") is None
