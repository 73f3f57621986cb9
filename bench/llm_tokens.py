"""Processor time that one streamed answer costs in this process: adapter, queue and circuit.

    python -m bench.llm_tokens [--answers 200] [--words 32] [--delay-ms 5]

The model server is `bench.stub_model`, in a process of its own, which sends every word for itself.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from contextlib import aclosing
from pathlib import Path

from bench.harness import stub_model
from mongars.circuit import CircuitSettings
from mongars.llm import ChatMessage, ChatRequest, LLMIntegration, LLMSettings, Text


async def measure(url: str, answers: int, words: int, delay_ms: int) -> None:
    settings = LLMSettings(backend="openai", url=f"{url}/v1", check_interval_s=3600)
    request = ChatRequest(
        (ChatMessage("user", f"words={words} delay_ms={delay_ms}"),), owner_id="bench"
    )
    with tempfile.TemporaryDirectory() as folder:
        async with LLMIntegration.open(settings, CircuitSettings(), Path(folder)) as llm:
            took = []
            for _ in range(answers):
                began, pieces = time.process_time(), 0
                async with aclosing(llm.answer(request)) as events:
                    async for event in events:
                        pieces += isinstance(event, Text)
                assert pieces == words
                took.append((time.process_time() - began) * 1000)
    middle = statistics.median(took[len(took) // 10 :])
    print(f"{middle:.2f} ms of processor time per answer of {words} tokens")
    print(f"{middle / words * 1000:.0f} us per token, request and all")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--answers", type=int, default=200)
    parser.add_argument("--words", type=int, default=32)
    parser.add_argument("--delay-ms", type=int, default=5)
    asked = parser.parse_args()
    with stub_model() as url:
        asyncio.run(measure(url, asked.answers, asked.words, asked.delay_ms))


if __name__ == "__main__":
    main()
