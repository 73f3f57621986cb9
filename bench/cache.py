"""Whether a turn re-reads only what is new: the model's prompt cache through monGARS and without."""

import asyncio
import contextlib
from pathlib import Path

import aiohttp

from bench.harness import Row, Served, add_person, served, signed_in
from mongars.circuit import CircuitSettings
from mongars.cortex import SYSTEM_PROMPT
from mongars.llm import ChatMessage, ChatRequest, Finished, LLMIntegration, LLMSettings

QUESTIONS = ("Name a fruit.", "Another one?", "What colour is it?", "Is it sweet?", "Thank you.")


def _new(usage: dict[str, int]) -> int:
    """Prompt tokens that the model had to read."""
    return usage["prompt_tokens"] - usage.get("cached_tokens", 0)


async def _through(server: Served, turns: int) -> tuple[list[tuple[str, str]], list[int]]:
    """The dialogue through monGARS: questions with answers, and newly read tokens of each turn."""
    dialogue, read = [], []
    async with signed_in(server) as http:
        await _ready(http, server)
        conversation = None
        for n in range(turns):
            asked: dict[str, object] = {"message": QUESTIONS[n % 5], "options": {"max_tokens": 16}}
            if conversation:
                asked["conversation_id"] = conversation
            async with http.post(f"{server.url}/api/v1/chat", json=asked) as answered:
                told = await answered.json()
                if answered.status != 200:
                    raise RuntimeError(told)
            conversation = told["conversation_id"]
            dialogue.append((QUESTIONS[n % 5], told["message"]["text"]))
            read.append(_new(told["usage"]))
    return dialogue, read


async def _ready(http: aiohttp.ClientSession, server: Served) -> None:
    for _ in range(600):
        async with http.get(f"{server.url}/readyz") as answered:
            if answered.status == 200:
                return
        await asyncio.sleep(0.1)
    raise TimeoutError("the model did not get ready")


async def _bare(data_dir: Path, dialogue: list[tuple[str, str]]) -> list[int]:
    """The same dialogue, sent to the same model server itself."""
    read = []
    data_dir.mkdir()
    settings = LLMSettings(backend="embedded")
    async with LLMIntegration.open(settings, CircuitSettings(), data_dir) as llm:
        messages = [ChatMessage("system", SYSTEM_PROMPT)]
        for question, answer in dialogue:
            messages.append(ChatMessage("user", question))
            request = ChatRequest(tuple(messages), owner_id="bench", max_tokens=16, temperature=0.7)
            async with contextlib.aclosing(llm.answer(request)) as events:
                ends = [event async for event in events if isinstance(event, Finished)]
            usage = ends[0].usage
            read.append(usage.prompt_tokens - (usage.cached_tokens or 0))
            messages.append(ChatMessage("assistant", answer))
    return read


def run(workspace: Path, quick: bool) -> Row:
    """Newly read prompt tokens at the last of 20 turns, through monGARS ÷ bare."""
    turns = 5 if quick else 20
    with served(workspace / "cache", LLM__BACKEND="embedded") as server:
        add_person(server.data_dir)
        dialogue, ours = asyncio.run(_through(server, turns))
    bare = asyncio.run(_bare(workspace / "bare", dialogue))
    ratio = ours[-1] / bare[-1]
    return Row(
        f"newly read prompt tokens at turn {turns} ÷ bare server",
        f"{ratio:.2f}",
        "1.1",
        "1.0",
        ratio <= 1.1,
        {"ours": ours, "bare": bare},
    )
