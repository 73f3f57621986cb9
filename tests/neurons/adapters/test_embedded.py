"""The embedded encoder: what its vectors are worth, and when it is in memory."""

import asyncio

import numpy as np

from mongars.neurons import NeuronsSettings
from mongars.neurons.adapters.embedded import (
    TEXTS_PER_BATCH,
    TOKENS_PER_BATCH,
    EmbeddedEncoder,
    _batches,
)

ALIKE = [
    ("A man is playing a guitar.", "Someone plays an instrument."),
    ("How do I bake bread?", "Recipe for a homemade loaf"),
    ("The plane took off an hour late.", "Our flight was delayed."),
    ("She adopted a puppy last week.", "There is a new dog in her home."),
    ("My head hurts.", "I have a headache."),
]


async def test_a_sentence_is_nearest_to_the_one_that_means_the_same() -> None:
    async with EmbeddedEncoder.open(NeuronsSettings()) as encoder:
        left = await encoder.encode([one for one, _ in ALIKE], kind="query")
        right = await encoder.encode([other for _, other in ALIKE], kind="passage")
    near = left @ right.T
    assert (near.argmax(axis=1) == np.arange(len(ALIKE))).all()
    assert near.diagonal().min() > 0.4
    assert near[~np.eye(len(ALIKE), dtype=bool)].max() < 0.3


async def test_vectors_are_those_of_the_float_model() -> None:
    """Cosines of the float model for the example on its own page, within what int8 changes."""
    async with EmbeddedEncoder.open(NeuronsSettings()) as encoder:
        sentences = [
            "That is a happy person",
            "That is a very happy person",
            "Today is a sunny day",
        ]
        happy, very, sunny = await encoder.encode(sentences, kind="passage")
    assert abs(float(happy @ very) - 0.943) < 0.02
    assert abs(float(happy @ sunny) - 0.257) < 0.03


async def test_it_is_loaded_at_the_first_text_and_let_go_when_unused() -> None:
    async with EmbeddedEncoder.open(NeuronsSettings(idle_unload_s=0.05)) as encoder:
        assert encoder.unloaded.is_set()
        before = await encoder.encode(["a text"], kind="passage")
        assert not encoder.unloaded.is_set()
        async with asyncio.timeout(10):
            await encoder.unloaded.wait()
        assert encoder._session is None
        after = await encoder.encode(["a text"], kind="passage")
        np.testing.assert_array_equal(before, after)


async def test_a_long_text_is_cut_at_256_tokens() -> None:
    async with EmbeddedEncoder.open(NeuronsSettings()) as encoder:
        assert await encoder.count_tokens(["word " * 1000, "a b c"]) == [256, 5]
        cut, longer = await encoder.encode(["word " * 254, "word " * 1000], kind="passage")
        np.testing.assert_allclose(cut, longer, atol=1e-5)


async def test_a_prefix_makes_other_vectors_and_another_digest() -> None:
    settings = NeuronsSettings(query_prefix="query: ")
    async with (
        EmbeddedEncoder.open(settings) as one,
        EmbeddedEncoder.open(NeuronsSettings()) as two,
    ):
        assert (await one.card()).digest != (await two.card()).digest
        prefixed = await one.encode(["cats"], kind="query")
        np.testing.assert_allclose(
            prefixed, await two.encode(["query: cats"], kind="query"), atol=1e-5
        )


def test_batches_hold_each_text_once_and_keep_within_their_bounds() -> None:
    lengths = [256] * 5 + list(range(1, 200)) + [1] * 100
    batches = list(_batches(lengths))
    assert sorted(at for batch in batches for at in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) <= TEXTS_PER_BATCH
        assert len(batch) * max(lengths[at] for at in batch) <= TOKENS_PER_BATCH
