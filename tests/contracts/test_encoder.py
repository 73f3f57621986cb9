"""What every encoder promises: embedded, Ollama, OpenAI, and the twin."""

from collections.abc import AsyncIterator

import numpy as np
import pytest

from mongars.neurons import Encoder, NeuronsSettings
from mongars.neurons.adapters.embedded import EmbeddedEncoder
from mongars.neurons.adapters.ollama import OllamaEncoder
from mongars.neurons.adapters.openai import OpenAIEncoder
from mongars.testing.encoders import EncoderServer, HashingEncoder


@pytest.fixture(params=["embedded", "ollama", "openai", "twin"])
async def encoder(request: pytest.FixtureRequest) -> AsyncIterator[Encoder]:
    if request.param == "twin":
        yield HashingEncoder()
        return
    if request.param == "embedded":
        async with EmbeddedEncoder.open(NeuronsSettings()) as embedded:
            yield embedded
        return
    async with EncoderServer() as server:
        if request.param == "ollama":
            settings = NeuronsSettings(url=server.url, model="hashing")
            async with OllamaEncoder.open(settings) as ollama:
                yield ollama
        else:
            settings = NeuronsSettings(url=f"{server.url}/v1", model="hashing")
            async with OpenAIEncoder.open(settings) as openai:
                yield openai


async def test_vectors_have_the_dimension_of_the_card_and_length_one(encoder: Encoder) -> None:
    card = await encoder.card()
    assert card.name
    assert card.digest
    vectors = await encoder.encode(["a cat", "", "word " * 2000, "日本語 é \x00"], kind="passage")
    assert vectors.dtype == np.float32
    assert vectors.shape == (4, card.dimension)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    assert await encoder.card() == card


async def test_a_text_has_the_same_vector_alone_and_among_others(encoder: Encoder) -> None:
    texts = ["one", "two words", "and a third text that is longer than the others", "one"]
    together = await encoder.encode(texts, kind="query")
    alone = np.vstack([await encoder.encode([text], kind="query") for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)


async def test_texts_that_are_alike_have_near_vectors(encoder: Encoder) -> None:
    cat, kitten, market = await encoder.encode(
        ["the cat sat on the mat", "a cat on the mat", "shares fell in Tokyo"], kind="passage"
    )
    assert cat @ kitten > cat @ market + 0.2


async def test_tokens_are_counted_for_each_text_or_not_at_all(encoder: Encoder) -> None:
    counted = await encoder.count_tokens(["one", "three more words"])
    assert counted is None or (len(counted) == 2 and counted[0] < counted[1])
