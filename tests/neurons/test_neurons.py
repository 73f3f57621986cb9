"""Neurons: batches, cache, owners, and what is loaded when."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from mongars.cache import CacheSettings, TieredCache
from mongars.errors import NotBuilt, NotConfigured, Unavailable
from mongars.neurons import EncoderCard, Neurons, NeuronsSettings
from mongars.testing.encoders import HashingEncoder


@pytest.fixture
async def cache(tmp_path: Path) -> AsyncIterator[TieredCache]:
    async with TieredCache.open(CacheSettings(), tmp_path, None) as cache:
        yield cache


@pytest.fixture
def encoder() -> HashingEncoder:
    return HashingEncoder()


@pytest.fixture
async def neurons(encoder: HashingEncoder, cache: TieredCache) -> AsyncIterator[Neurons]:
    async with Neurons.over(encoder, cache) as neurons:
        yield neurons


async def test_vectors_come_in_the_order_of_their_texts(
    neurons: Neurons, encoder: HashingEncoder
) -> None:
    texts = [f"text number {n}" for n in range(100)]
    found = await neurons.encode(texts, owner_id="ann")
    np.testing.assert_array_equal(found, encoder.vectors(texts))
    assert (await neurons.encode([], owner_id="ann")).shape == (0, 256)


async def test_what_was_encoded_before_comes_from_the_cache(
    neurons: Neurons, encoder: HashingEncoder
) -> None:
    first = await neurons.encode(["one", "two", "one"], owner_id="ann")
    again = await neurons.encode(["two", "one", "three"], owner_id="ann")
    assert sorted(encoded(encoder)) == ["one", "three", "two"]
    np.testing.assert_array_equal(first[:2], again[[1, 0]])
    await neurons.encode(["one"], kind="query", owner_id="ann")
    await neurons.encode(["one"], owner_id="bob")
    assert encoded(encoder)[3:] == ["one", "one"], "for another kind, and for another owner"


def encoded(encoder: HashingEncoder) -> list[str]:
    return [text for _, texts in encoder.calls for text in texts]


async def test_forgetting_an_owner_forgets_the_vectors_of_their_texts(
    neurons: Neurons, encoder: HashingEncoder, cache: TieredCache
) -> None:
    await neurons.encode(["one"], owner_id="ann")
    assert (await cache.forget("ann")).entries == 2
    await neurons.encode(["one"], owner_id="ann")
    assert len(encoder.calls) == 2


async def until_asked(encoder: HashingEncoder) -> None:
    async with asyncio.timeout(5):
        while not encoder.calls:
            await asyncio.sleep(0.001)


async def test_calls_at_the_same_time_share_batches_and_questions_go_first(
    neurons: Neurons, encoder: HashingEncoder
) -> None:
    encoder.gate.clear()
    first = asyncio.create_task(neurons.encode(["first"], owner_id=None))
    await until_asked(encoder)
    others = [
        asyncio.create_task(neurons.encode([f"{kind} {n}"], kind=kind, owner_id=None))
        for n in range(20)
        for kind in ("passage", "query")
    ]
    await until_waiting(neurons, 40)
    encoder.gate.set()
    await asyncio.gather(first, *others)
    kinds = [(kind, len(texts)) for kind, texts in encoder.calls]
    assert kinds == [("passage", 1), ("query", 20), ("passage", 20)]


async def until_waiting(neurons: Neurons, count: int) -> None:
    async with asyncio.timeout(5):
        while sum(map(len, neurons._batcher._waiting.values())) < count:
            await asyncio.sleep(0.001)


async def test_leaving_gives_the_encoder_up_and_others_are_served(
    neurons: Neurons, encoder: HashingEncoder
) -> None:
    encoder.gate.clear()
    gone = asyncio.create_task(neurons.encode(["one", "two"], owner_id=None))
    await until_asked(encoder)
    waiting = asyncio.create_task(neurons.encode(["three"], owner_id=None))
    await until_waiting(neurons, 1)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    encoder.gate.set()
    assert (await waiting).shape == (1, 256)
    assert encoder.cancelled == 1


class FailingEncoder(HashingEncoder):
    """Fails as long as it is told to."""

    failing = True

    async def encode(self, texts, *, kind):  # type: ignore[no-untyped-def]
        if self.failing:
            raise Unavailable("away")
        return await super().encode(texts, kind=kind)

    async def card(self) -> EncoderCard:
        return EncoderCard("failing", "failing", 256)


async def test_a_fault_of_the_encoder_is_its_callers_and_nothing_more(cache: TieredCache) -> None:
    encoder = FailingEncoder()
    async with Neurons.over(encoder, cache) as neurons:
        with pytest.raises(Unavailable, match="away"):
            await neurons.encode(["one", "two"], owner_id=None)
        encoder.failing = False
        assert (await neurons.encode(["one"], owner_id=None)).shape == (1, 256)


async def test_closing_ends_what_waits(cache: TieredCache, encoder: HashingEncoder) -> None:
    encoder.gate.clear()
    async with Neurons.over(encoder, cache) as neurons:
        waiting = asyncio.create_task(neurons.encode(["one"], owner_id=None))
        await until_asked(encoder)
    for late in (waiting, neurons.encode(["two"], owner_id=None)):
        with pytest.raises(Unavailable, match="closed"):
            async with asyncio.timeout(5):
                await late


async def test_a_broken_surrogate_pair_is_encoded_too(
    neurons: Neurons, encoder: HashingEncoder
) -> None:
    await neurons.encode(["half \ud800"], owner_id=None)
    assert encoder.calls == [("passage", ("half ?",))]
    assert await neurons.count_tokens(["half \ud800", "a b"]) == [1, 2]


async def test_the_default_needs_no_server(cache: TieredCache) -> None:
    async with Neurons.open(NeuronsSettings(), cache) as neurons:
        found = await neurons.encode(["a text"], owner_id=None)
        assert found.shape == (1, (await neurons.card()).dimension)


async def test_llm2vec_is_said_to_be_not_built(cache: TieredCache) -> None:
    with pytest.raises(NotBuilt):
        async with Neurons.open(NeuronsSettings(backend="llm2vec"), cache):
            pass


@pytest.mark.parametrize("backend", ["no_such_package:Encoder", "mongars.neurons:NoSuchClass"])
async def test_an_encoder_that_is_not_installed_is_said(cache: TieredCache, backend: str) -> None:
    with pytest.raises(NotConfigured):
        async with Neurons.open(NeuronsSettings(backend=backend), cache):
            pass


def test_importing_it_loads_neither_numpy_nor_onnxruntime_nor_a_client() -> None:
    code = "import mongars.neurons, sys; print([m for m in sys.modules if m in {'numpy', 'onnxruntime', 'tokenizers', 'httpx', 'redis'}])"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    assert printed.strip() == b"[]"


def test_a_missing_package_is_said_with_the_command_that_adds_it(tmp_path: Path) -> None:
    """In a Python whose path has no onnxruntime."""
    (tmp_path / "onnxruntime.py").write_text("raise ModuleNotFoundError(name='onnxruntime')\n")
    code = (
        f"import asyncio, sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from mongars.neurons import NeuronsSettings\n"
        "from mongars.neurons.adapters.embedded import EmbeddedEncoder\n"
        "async def main():\n"
        "    async with EmbeddedEncoder.open(NeuronsSettings()) as e:\n"
        "        await e.encode(['x'], kind='query')\n"
        "try: asyncio.run(main())\n"
        "except Exception as e: print(type(e).__name__, e)\n"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    assert printed.startswith(b"NotConfigured")
    assert b"pip install" in printed
