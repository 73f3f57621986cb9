import asyncio
import filecmp
import hashlib
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import orjson
import pytest

from mongars.errors import Conflict, Forbidden, Invalid, Missing, NotConfigured, Unavailable
from mongars.llm.download import Downloads, Source
from mongars.llm.fetch import CHUNK_BYTES, Fetcher, Patience
from mongars.llm.hub import Hub
from mongars.llm.library import Library, built_in_path, partial_paths
from mongars.testing.hub import COMMIT, HubRepository, HubServer, Trouble, tiny_gguf

MODEL = tiny_gguf(3 * CHUNK_BYTES + 12_345)
SHA256 = hashlib.sha256(MODEL).hexdigest()
REPOSITORY = "maker/Small-GGUF"
QUICK = Patience(connect_s=2.0, silence_s=2.0, retries_s=(0.01, 0.01))


class Told:
    """What progress was told."""

    def __init__(self) -> None:
        self.reports: list[tuple[int, int | None]] = []
        self.some = asyncio.Event()

    async def __call__(self, done: int, total: int | None) -> None:
        self.reports.append((done, total))
        self.some.set()


@pytest.fixture
async def hub() -> AsyncIterator[HubServer]:
    files = {"small-Q4_K_M.gguf": MODEL, "small-Q8_0.gguf": tiny_gguf(), "README.md": b"# Small"}
    repositories = {REPOSITORY: HubRepository(files)}
    async with HubServer(repositories, files={"mine.gguf": MODEL}) as hub:
        yield hub


@asynccontextmanager
async def downloading(
    hub: HubServer,
    data_dir: Path,
    *,
    free: Callable[[Path], int] = lambda _: 10**12,
    token: str | None = None,
) -> AsyncIterator[Downloads]:
    async with aiohttp.ClientSession() as http:
        fetcher = Fetcher(http, reserve_bytes=1000, free=free, patience=QUICK)
        yield Downloads(Library(data_dir), fetcher, Hub(hub.url, token))


def files_in(data_dir: Path) -> list[str]:
    return sorted(path.name for path in (data_dir / "models").iterdir())


async def test_a_model_comes_from_a_hub_checked_and_for_its_owner_only(hub, tmp_path):
    told = Told()
    async with downloading(hub, tmp_path) as downloads:
        card = await downloads.pull(REPOSITORY, progress=told)
    assert card.full_name == "embedded/small-Q4_K_M"
    assert (card.digest, card.size_bytes) == (SHA256, len(MODEL))
    path = tmp_path / "models" / "small-Q4_K_M.gguf"
    assert path.read_bytes() == MODEL
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert told.reports[-1] == (len(MODEL), len(MODEL))
    assert files_in(tmp_path) == ["small-Q4_K_M.gguf", "small-Q4_K_M.json"]


@pytest.mark.slow
async def test_a_real_model_arrives_whole_over_a_connection_that_breaks(hub, tmp_path):
    real = built_in_path()
    assert real is not None
    hub.repositories["maker/Real-GGUF"] = HubRepository({"real.gguf": real})
    hub.trouble = Trouble(cut_after_bytes=50_000_000)
    async with downloading(hub, tmp_path) as downloads:
        card = await downloads.pull("maker/Real-GGUF", progress=Told())
    assert card.size_bytes == real.stat().st_size
    assert card.digest == hashlib.sha256(real.read_bytes()).hexdigest()
    assert filecmp.cmp(real, tmp_path / "models" / "real.gguf", shallow=False)


async def test_where_a_model_came_from_is_written_beside_it(hub, tmp_path):
    async with downloading(hub, tmp_path) as downloads:
        await downloads.pull(REPOSITORY, progress=Told())
    note = tmp_path / "models" / "small-Q4_K_M.json"
    assert stat.S_IMODE(note.stat().st_mode) == 0o600
    about = orjson.loads(note.read_bytes())
    about.pop("at")
    assert about == {
        "name": "small-Q4_K_M",
        "source": f"{REPOSITORY}@{COMMIT}/small-Q4_K_M.gguf",
        "sha256": SHA256,
        "size_bytes": len(MODEL),
        "verified": True,
        "licence": "apache-2.0",
    }


async def test_an_offer_tells_licence_size_and_checksum_before_anything_is_fetched(hub, tmp_path):
    async with downloading(hub, tmp_path) as downloads:
        offer = await downloads.offer(f"{REPOSITORY}/small-Q4_K_M.gguf")
    assert (offer.licence, offer.size_bytes, offer.sha256) == ("apache-2.0", len(MODEL), SHA256)
    assert hub.ranges == []


@pytest.mark.parametrize("no_length", [False, True])
async def test_a_cut_connection_is_taken_up_where_it_broke(hub, tmp_path, no_length):
    hub.trouble = Trouble(cut_after_bytes=CHUNK_BYTES + 7, no_length=no_length)
    async with downloading(hub, tmp_path) as downloads:
        await downloads.pull(REPOSITORY, progress=Told())
    assert (tmp_path / "models" / "small-Q4_K_M.gguf").read_bytes() == MODEL
    first, second = hub.ranges
    assert first is None
    assert second is not None
    assert 0 < int(second.removeprefix("bytes=").removesuffix("-")) <= CHUNK_BYTES + 7


async def test_a_cancelled_download_goes_on_with_the_next_call(hub, tmp_path):
    hub.trouble = Trouble(wait_after_bytes=2 * CHUNK_BYTES)
    told = Told()
    part = partial_paths(tmp_path / "models" / "small-Q4_K_M.gguf")[0]
    async with downloading(hub, tmp_path) as downloads:
        pulling = asyncio.create_task(downloads.pull(REPOSITORY, progress=told))
        async with asyncio.timeout(5):
            await told.some.wait()
            pulling.cancel()
            with pytest.raises(asyncio.CancelledError):
                await pulling
        kept = part.stat().st_size
        assert kept > 0
        assert not (tmp_path / "models" / "small-Q4_K_M.gguf").exists()

        hub.trouble = Trouble()
        await downloads.pull(REPOSITORY, progress=Told())
    assert hub.ranges == [None, f"bytes={kept}-"]
    assert (tmp_path / "models" / "small-Q4_K_M.gguf").read_bytes() == MODEL


async def test_a_server_that_stays_away_is_given_up_and_what_came_is_kept(hub, tmp_path):
    hub.trouble = Trouble(cut_after_bytes=0, cuts=99)
    async with downloading(hub, tmp_path) as downloads:
        with pytest.raises(Unavailable, match="goes on from there"):
            await downloads.pull(REPOSITORY, progress=Told())
    assert len(hub.ranges) == 3


async def test_a_connection_that_is_cut_again_and_again_is_enough_while_bytes_come(hub, tmp_path):
    hub.trouble = Trouble(cut_after_bytes=CHUNK_BYTES, cuts=3)
    async with downloading(hub, tmp_path) as downloads:
        await downloads.pull(REPOSITORY, progress=Told())
    assert len(hub.ranges) == 4


async def test_a_server_that_ignores_the_range_is_read_from_the_start(hub, tmp_path):
    hub.trouble = Trouble(cut_after_bytes=CHUNK_BYTES, ignore_range=True)
    async with downloading(hub, tmp_path) as downloads:
        await downloads.pull(REPOSITORY, progress=Told())
    assert (tmp_path / "models" / "small-Q4_K_M.gguf").read_bytes() == MODEL


async def test_a_wrong_checksum_is_refused_and_nothing_stays(hub, tmp_path):
    hub.trouble = Trouble(spoil=True)
    async with downloading(hub, tmp_path) as downloads:
        with pytest.raises(Invalid) as refused:
            await downloads.pull(REPOSITORY, progress=Told())
    assert refused.value.problem == "checksum-mismatch"
    assert files_in(tmp_path) == []


async def test_a_disk_without_room_is_said_before_anything_is_written(hub, tmp_path):
    async with downloading(hub, tmp_path, free=lambda _: len(MODEL) + 999) as downloads:
        with pytest.raises(Unavailable) as refused:
            await downloads.pull(REPOSITORY, progress=Told())
    assert refused.value.problem == "disk-full"
    assert files_in(tmp_path) == []


async def test_what_is_here_already_is_not_fetched_again(hub, tmp_path):
    async with downloading(hub, tmp_path) as downloads:
        await downloads.pull(REPOSITORY, progress=Told())
        told = Told()
        await downloads.pull(REPOSITORY, progress=told)
    assert len(hub.ranges) == 1
    assert told.reports == [(len(MODEL), len(MODEL))]


async def test_a_name_that_another_model_has_is_a_conflict(hub, tmp_path):
    async with downloading(hub, tmp_path) as downloads:
        await downloads.pull(REPOSITORY, progress=Told())
        hub.repositories[REPOSITORY].files["small-Q4_K_M.gguf"] = tiny_gguf(99)
        with pytest.raises(Conflict, match="models rm"):
            await downloads.pull(REPOSITORY, progress=Told())


async def test_the_same_model_is_not_downloaded_twice_at_once(hub, tmp_path):
    hub.trouble = Trouble(wait_after_bytes=CHUNK_BYTES)
    told = Told()
    async with downloading(hub, tmp_path) as downloads:
        first = asyncio.create_task(downloads.pull(REPOSITORY, progress=told))
        async with asyncio.timeout(5):
            await told.some.wait()
        with pytest.raises(Conflict, match="already"):
            await downloads.pull(REPOSITORY, progress=Told())
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first


async def test_a_model_comes_from_an_address_and_says_that_nobody_vouches_for_it(hub, tmp_path):
    async with downloading(hub, tmp_path) as downloads:
        card = await downloads.pull(f"{hub.url}/files/mine.gguf?key=secret", progress=Told())
        model = downloads.library.find(card.name)
    assert (model.sha256, model.verified, model.licence) == (SHA256, False, None)
    assert model.source == f"{hub.url}/files/mine.gguf"


async def test_an_address_is_resumed_only_while_the_file_is_the_same(hub, tmp_path):
    address = f"{hub.url}/files/mine.gguf"
    told = Told()
    async with downloading(hub, tmp_path) as downloads:
        hub.trouble = Trouble(wait_after_bytes=CHUNK_BYTES)
        pulling = asyncio.create_task(downloads.pull(address, progress=told))
        async with asyncio.timeout(5):
            await told.some.wait()
        pulling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pulling
        other = tiny_gguf() + b"another" * CHUNK_BYTES
        hub.files["mine.gguf"], hub.trouble = other, Trouble()
        await downloads.pull(address, progress=Told())
    assert (tmp_path / "models" / "mine.gguf").read_bytes() == other


async def test_a_checksum_from_the_person_is_checked(hub, tmp_path):
    address = f"{hub.url}/files/mine.gguf"
    async with downloading(hub, tmp_path) as downloads:
        with pytest.raises(Invalid, match="checksum"):
            await downloads.pull(f"{address}#sha256={'0' * 64}", progress=Told())
        await downloads.pull(f"{address}#sha256={SHA256.upper()}", progress=Told())
        assert downloads.library.find("mine").verified


async def test_what_is_not_a_model_is_refused_at_its_first_bytes(hub, tmp_path):
    hub.files["page.gguf"] = b"<!doctype html>" + b" " * 5 * CHUNK_BYTES
    async with downloading(hub, tmp_path) as downloads:
        with pytest.raises(Invalid) as refused:
            await downloads.pull(f"{hub.url}/files/page.gguf", progress=Told())
    assert refused.value.problem == "not-a-model"
    assert files_in(tmp_path) == []


async def test_a_file_that_is_not_there_is_missing(hub, tmp_path):
    async with downloading(hub, tmp_path) as downloads:
        with pytest.raises(Missing):
            await downloads.offer(f"{hub.url}/files/nothing.gguf")
        with pytest.raises(Missing, match="no model repository"):
            await downloads.offer("maker/Nothing-GGUF")
        with pytest.raises(Missing, match="small-Q4_K_M"):
            await downloads.offer(f"{REPOSITORY}/other.gguf")


async def test_parts_of_a_model_are_refused(hub, tmp_path):
    hub.repositories["maker/Split-GGUF"] = HubRepository(
        {"big-00001-of-00002.gguf": tiny_gguf(), "mmproj-big.gguf": tiny_gguf()}
    )
    async with downloading(hub, tmp_path) as downloads:
        with pytest.raises(Invalid, match="in one piece"):
            await downloads.offer("maker/Split-GGUF")


async def test_several_files_without_a_usual_one_ask_for_a_choice(hub, tmp_path):
    hub.repositories["maker/Odd-GGUF"] = HubRepository(
        {"odd-IQ2.gguf": tiny_gguf(), "odd-IQ3.gguf": tiny_gguf()}
    )
    async with downloading(hub, tmp_path) as downloads:
        with pytest.raises(Invalid, match=r"odd-IQ2\.gguf, odd-IQ3\.gguf"):
            await downloads.offer("maker/Odd-GGUF")


async def test_terms_to_accept_are_said_and_a_token_opens_without_travelling_on(hub, tmp_path):
    hub.repositories[REPOSITORY].gated = True
    async with downloading(hub, tmp_path) as downloads:
        with pytest.raises(Forbidden, match="HUB_TOKEN"):
            await downloads.offer(REPOSITORY)
    async with downloading(hub, tmp_path, token="hf_secret") as downloads:
        await downloads.pull(REPOSITORY, progress=Told())
    assert hub.authorizations == [None]


async def test_a_hub_that_does_not_answer_is_unavailable(hub, tmp_path):
    async with downloading(hub, tmp_path) as downloads:
        await hub.__aexit__(None, None, None)
        with pytest.raises(Unavailable, match="hub does not answer"):
            await downloads.offer(REPOSITORY)


async def test_ollama_is_asked_for_only_where_there_is_one(hub, tmp_path):
    async with downloading(hub, tmp_path) as downloads:
        with pytest.raises(NotConfigured, match="LLM__URL"):
            await downloads.pull("ollama/llama3.2:1b", progress=Told())


@pytest.mark.parametrize(
    ("text", "kind", "repository", "revision", "path"),
    [
        ("qwen3-8b", "hub", "Qwen/Qwen3-8B-GGUF", None, "Qwen3-8B-Q4_K_M.gguf"),
        ("a/b", "hub", "a/b", None, None),
        ("a/b/c.gguf", "hub", "a/b", None, "c.gguf"),
        ("a/b@v1/d/c.gguf", "hub", "a/b", "v1", "d/c.gguf"),
        ("ollama/qwen3:8b", "ollama", "", None, None),
    ],
)
def test_sources_are_taken_apart(text, kind, repository, revision, path):
    source = Source.read(text)
    assert (source.kind, source.repository, source.revision) == (kind, repository, revision)
    assert source.path == path


def test_secrets_of_an_address_do_not_stand_where_it_is_told():
    source = Source.read("https://me:secret@example.org/x.gguf?key=secret")
    assert source.text == "https://example.org/x.gguf"
    assert source.url == "https://me:secret@example.org/x.gguf?key=secret"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "word",
        "file:///etc/passwd",
        "ftp://host/x.gguf",
        "http://",
        "http://h/x.gguf#md5=1",
        "a/b/c.bin",
    ],
)
def test_other_sources_are_refused(text):
    with pytest.raises(Invalid):
        Source.read(text)


async def test_an_address_without_a_file_name_is_refused(hub, tmp_path):
    async with downloading(hub, tmp_path) as downloads:
        for address in ("/files/", "/files/..gguf", "/files/%2e%2e%2fx.gguf/"):
            with pytest.raises(Invalid):
                await downloads.offer(hub.url + address)
