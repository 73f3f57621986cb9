"""Encoders behind a server: what they send, and what they make of its trouble."""

from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr

from mongars.errors import Missing, NotConfigured, Unavailable
from mongars.neurons import Encoder, NeuronsSettings
from mongars.neurons.adapters.ollama import OllamaEncoder
from mongars.neurons.adapters.openai import OpenAIEncoder
from mongars.testing.encoders import EncoderServer
from tests.servers import free_port

Adapter = type[OllamaEncoder] | type[OpenAIEncoder]


@pytest.fixture
async def server() -> AsyncIterator[EncoderServer]:
    async with EncoderServer() as server:
        yield server


@pytest.fixture(params=[OllamaEncoder, OpenAIEncoder])
def adapter(request: pytest.FixtureRequest) -> Adapter:
    chosen: Adapter = request.param
    return chosen


def settings(adapter: Adapter, url: str, **more: object) -> NeuronsSettings:
    path = "/v1" if adapter is OpenAIEncoder else ""
    return NeuronsSettings.model_validate({"url": url + path, "model": "hashing", **more})


async def ask(encoder: Encoder) -> None:
    await encoder.encode(["a text"], kind="passage")


async def test_the_prefix_of_its_kind_stands_before_a_text(
    adapter: Adapter, server: EncoderServer
) -> None:
    chosen = settings(adapter, server.url, query_prefix="q: ", passage_prefix="p: ")
    async with adapter.open(chosen) as encoder:
        await encoder.encode(["one", "two"], kind="query")
        await encoder.encode(["three"], kind="passage")
    assert [body["input"] for body in server.bodies] == [["q: one", "q: two"], ["p: three"]]


async def test_the_key_is_sent_and_a_wrong_one_is_said(
    adapter: Adapter, server: EncoderServer
) -> None:
    server.key = "right"
    async with adapter.open(settings(adapter, server.url, api_key="right")) as encoder:
        await ask(encoder)
    wrong = settings(adapter, server.url, api_key="wrong-one")
    async with adapter.open(wrong) as encoder:
        with pytest.raises(NotConfigured, match="MONGARS_NEURONS__API_KEY") as raised:
            await ask(encoder)
    assert "wrong-one" not in str(raised.value)
    assert "wrong-one" not in repr(wrong)


async def test_a_model_that_the_server_has_not_is_missing(
    adapter: Adapter, server: EncoderServer
) -> None:
    async with adapter.open(settings(adapter, server.url, model="other")) as encoder:
        with pytest.raises(Missing):
            await ask(encoder)
        with pytest.raises(Missing):
            await encoder.card()


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, b"broken"),
        (200, b"not json"),
        (200, b"[]"),
        (200, b"null"),
        (200, b"{}"),
        (200, b'{"embeddings": [[1, 2], [3]], "data": [{"index": 0}]}'),
        (200, b'{"embeddings": [], "data": []}'),
        (200, b'{"embeddings": [[0, 0]], "data": [{"index": 0, "embedding": [0, 0]}]}'),
        (200, b'{"embeddings": ["x"], "data": [{"index": 0, "embedding": "x"}]}'),
    ],
)
async def test_what_is_no_vector_is_a_fault(
    adapter: Adapter, server: EncoderServer, status: int, body: bytes
) -> None:
    server.answer = (status, body)
    async with adapter.open(settings(adapter, server.url)) as encoder:
        with pytest.raises(Unavailable):
            await ask(encoder)


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}", "localhost:{port}", "http://[", "x"])
async def test_a_server_that_is_not_there_is_a_fault(adapter: Adapter, url: str) -> None:
    with pytest.raises((Unavailable, NotConfigured)):
        async with adapter.open(settings(adapter, url.format(port=free_port()))) as encoder:
            await ask(encoder)


async def test_other_weights_under_the_same_name_have_another_digest(
    server: EncoderServer,
) -> None:
    digests = set()
    for server.digest in ("a", "b"):
        async with OllamaEncoder.open(settings(OllamaEncoder, server.url)) as encoder:
            digests.add((await encoder.card()).digest)
    assert len(digests) == 2


@pytest.mark.parametrize("given", [{}, {"model": "m"}, {"url": "http://localhost"}])
async def test_a_setting_that_is_missing_is_named(given: dict[str, str]) -> None:
    incomplete = NeuronsSettings.model_validate({**given, "api_key": SecretStr("k")})
    with pytest.raises(NotConfigured, match="MONGARS_NEURONS__"):
        async with OpenAIEncoder.open(incomplete):
            pass
