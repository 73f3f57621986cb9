"""The embedded encoder: texts a second, a question's wait, memory while loaded and after.

`python -m bench.encoder [--texts 512]`. Texts are made of common words, 5 to 50 each (mean about 28),
always the same.
"""

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from pathlib import Path

import psutil

from mongars.cache import CacheSettings, TieredCache
from mongars.hardware import recommended_worker_count
from mongars.neurons import Neurons, NeuronsSettings
from mongars.neurons.adapters.embedded import EmbeddedEncoder

COMMON = (
    "the of and to in we you her his about with from after before morning evening summer winter "
    "painting guitar pottery camping adoption museum sunset race school doctor garden mountain "
    "family friend kitchen recipe letter train city river market phone movie book dinner ticket"
)
WORDS = COMMON.split()


def texts_of(count: int) -> list[str]:
    rng = random.Random(7)
    return [" ".join(rng.choices(WORDS, k=rng.randint(5, 50))) + f" {n}" for n in range(count)]


def rss_mib() -> float:
    return psutil.Process().memory_info().rss / 2**20


def percentiles(seconds: list[float]) -> str:
    ordered = sorted(seconds)
    p95 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))]
    return f"p50 {statistics.median(ordered) * 1000:.1f} ms, p95 {p95 * 1000:.1f} ms"


async def timed(neurons: Neurons, texts: list[str], kind: str = "passage") -> float:
    begun = time.perf_counter()
    await neurons.encode(texts, kind="query" if kind == "query" else "passage", owner_id="bench")
    return time.perf_counter() - begun


async def measure(count: int) -> None:
    texts = texts_of(count)
    with tempfile.TemporaryDirectory() as folder:
        async with (
            TieredCache.open(CacheSettings(), Path(folder), None) as cache,
            EmbeddedEncoder.open(NeuronsSettings(idle_unload_s=0.2)) as encoder,
            Neurons.over(encoder, cache) as neurons,
        ):
            before = rss_mib()
            print(f"workers: {recommended_worker_count()}, load: {psutil.getloadavg()[0]:.1f}")
            print(f"first text, loading included: {await timed(neurons, ['a first text']):.2f} s")
            print(f"memory: {before:.0f} MiB before, {rss_mib():.0f} MiB loaded")
            cpu = time.process_time()
            took = await timed(neurons, texts)
            cpu = time.process_time() - cpu
            print(
                f"{count} texts: {count / took:.0f} texts/s, {cpu / count * 1000:.1f} CPU ms a text"
            )
            print(f"memory: {rss_mib():.0f} MiB after it")
            took = await timed(neurons, texts)
            print(f"the same from memory: {count / took:.0f} texts/s")
            asked = [
                f"what did she say about {a} and {b}" for a in WORDS[8:18] for b in WORDS[20:30]
            ]
            new = [await timed(neurons, [text], "query") for text in asked]
            print(f"a new question: {percentiles(new)}")
            again = [await timed(neurons, [text], "query") for text in asked]
            print(f"a question asked before: {percentiles(again)}")
            await encoder.unloaded.wait()
            print(f"memory: {rss_mib():.0f} MiB once unused")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=512)
    asyncio.run(measure(parser.parse_args().texts))


if __name__ == "__main__":
    main()
