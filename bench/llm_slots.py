"""How soon the embedded model's slot is free after its reader left: while it writes, while it reads.

    python -m bench.llm_slots [--rounds 5]

The slot's state is read from llama.cpp itself (`/slots`). Needs the embedded model; run it on a
machine that does nothing else.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from contextlib import aclosing
from pathlib import Path

from mongars.llm import ChatMessage, ChatRequest, LLMSettings, Reading, Text
from mongars.llm.adapters.embedded import Embedded

STORY = "Tell a very long story about a dog, a cat and a lighthouse, with ten chapters."


async def busy(model: Embedded) -> bool:
    server = await model._process.ready()
    url = server.base_url.removesuffix("/v1") + "/slots"
    async with server._http.get(url, headers=server._headers) as told:
        return any(slot["is_processing"] for slot in await told.json())


async def freed_after_s(model: Embedded, text: str, kind: type, wait_s: float) -> float:
    """Seconds from closing to a free slot, closed `wait_s` after the first event of this kind."""
    request = ChatRequest((ChatMessage("user", text),), "bench", max_tokens=3000, temperature=1.0)
    async with aclosing(model.stream(request)) as events:
        async for event in events:
            if isinstance(event, kind):
                await asyncio.sleep(wait_s)
                break
        assert await busy(model)
        began = time.perf_counter()
    while await busy(model):
        await asyncio.sleep(0.005)
    return time.perf_counter() - began


async def main(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with Embedded.open(LLMSettings(seats=1), Path(folder)) as model:
            await model.ready()
            for name, kind, wait_s in (("writing", Text, 0.1), ("reading", Reading, 1.0)):
                took = []
                for turn in range(rounds):
                    text = f"{turn} " + ("word " * 3500 if kind is Reading else STORY)
                    took.append(await freed_after_s(model, text, kind, wait_s))
                print(
                    f"{name}: slot free after {statistics.median(took):.3f} s "
                    f"({min(took):.3f}-{max(took):.3f}, {rounds} rounds)"
                )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    asyncio.run(main(parser.parse_args().rounds))
