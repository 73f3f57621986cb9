"""Better models than the built-in one, and which of them this machine can carry.

The table is short on purpose: instruct models with permissive licences that are well known to run
on llama.cpp and Ollama. Sizes are rounded; the exact size and the checksum come from the hub when
a download begins.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mongars.hardware import describe

GB = 10**9
MB = 10**6


@dataclass(frozen=True)
class CataloguedModel:
    """A recommended model.

    `parameters_b` in billions; `download_bytes` is the size of the GGUF file, which is about what
    is read from memory for every token; `cache_bytes_per_token` of the key-value cache in 16 bits:
    2 · layers · key-value heads · width of a head · 2 bytes, from the model's own configuration.
    """

    name: str
    parameters_b: float
    licence: str
    download_bytes: int
    cache_bytes_per_token: int
    context_tokens: int
    repository: str
    file: str
    ollama: str
    note: str

    def memory_bytes(self, context_tokens: int = 8192) -> int:
        """Memory it needs with a conversation of this length: weights, cache, working buffers."""
        return self.download_bytes + self.cache_bytes_per_token * context_tokens + 300 * MB


CATALOGUE: tuple[CataloguedModel, ...] = (
    CataloguedModel(
        "Qwen2.5-0.5B-Instruct", 0.49, "apache-2.0", 491 * MB, 12_288, 32_768,
        "Qwen/Qwen2.5-0.5B-Instruct-GGUF", "qwen2.5-0.5b-instruct-q4_k_m.gguf",
        "qwen2.5:0.5b", "for a Pi with 2 GB; short answers, many languages",
    ),
    CataloguedModel(
        "SmolLM2-1.7B-Instruct", 1.71, "apache-2.0", 1_060 * MB, 196_608, 8_192,
        "HuggingFaceTB/SmolLM2-1.7B-Instruct-GGUF", "smollm2-1.7b-instruct-q4_k_m.gguf",
        "smollm2:1.7b", "the built-in model's big sister; English",
    ),
    CataloguedModel(
        "Qwen2.5-1.5B-Instruct", 1.54, "apache-2.0", 1_120 * MB, 28_672, 32_768,
        "Qwen/Qwen2.5-1.5B-Instruct-GGUF", "qwen2.5-1.5b-instruct-q4_k_m.gguf",
        "qwen2.5:1.5b", "small and quick, good in French; long talks cost little memory",
    ),
    CataloguedModel(
        "Phi-4-mini-instruct", 3.84, "mit", 2_490 * MB, 131_072, 131_072,
        "unsloth/Phi-4-mini-instruct-GGUF", "Phi-4-mini-instruct-Q4_K_M.gguf",
        "phi4-mini:3.8b", "good at reasoning for its size",
    ),
    CataloguedModel(
        "Qwen3-4B-Instruct-2507", 4.02, "apache-2.0", 2_500 * MB, 147_456, 262_144,
        "unsloth/Qwen3-4B-Instruct-2507-GGUF", "Qwen3-4B-Instruct-2507-Q4_K_M.gguf",
        "qwen3:4b-instruct", "the best all-rounder for a laptop with 8 GB",
    ),
    CataloguedModel(
        "Mistral-7B-Instruct-v0.3", 7.25, "apache-2.0", 4_370 * MB, 131_072, 32_768,
        "bartowski/Mistral-7B-Instruct-v0.3-GGUF", "Mistral-7B-Instruct-v0.3-Q4_K_M.gguf",
        "mistral:7b", "strong in French and other European languages",
    ),
    CataloguedModel(
        "Qwen3-8B", 8.19, "apache-2.0", 5_030 * MB, 147_456, 40_960,
        "Qwen/Qwen3-8B-GGUF", "Qwen3-8B-Q4_K_M.gguf",
        "qwen3:8b", "thinks before it answers; for 16 GB",
    ),
    CataloguedModel(
        "phi-4", 14.7, "mit", 9_050 * MB, 204_800, 16_384,
        "bartowski/phi-4-GGUF", "phi-4-Q4_K_M.gguf",
        "phi4:14b", "careful and knowing; for 16 GB and a quick memory",
    ),
)  # fmt: skip
"""From the least able to the most able."""

COMFORTABLE_TOKENS_PER_S = 5.0
"""About as quickly as people read aloud; slower models are listed after the quicker ones."""

_CORE_BYTES_PER_S = 3.2 * GB
_MACHINE_BYTES_PER_S = 25 * GB
_BOARDS = (("Raspberry Pi 4", 4 * GB), ("Raspberry Pi 5", 10 * GB), ("Raspberry Pi 3", 2 * GB))


@dataclass(frozen=True)
class Machine:
    """What this machine has for a model. `bytes_per_s` is how quickly weights are read from memory."""

    memory_bytes: int
    available_bytes: int
    disk_free_bytes: int
    cores: int
    bytes_per_s: float

    @property
    def budget_bytes(self) -> int:
        """Memory that a model may take: a fifth, and at least 700 MB, stays for everything else."""
        return max(0, self.memory_bytes - max(self.memory_bytes // 5, 700 * MB))


@dataclass(frozen=True)
class Recommendation:
    """A model, and how it would be here. `why_not` is a sentence where it cannot be carried."""

    model: CataloguedModel
    memory_bytes: int
    tokens_per_s: float
    why_not: str | None = None
    tight: bool = False
    """It fits, but not into what other programs leave free right now."""

    @property
    def fits(self) -> bool:
        """Whether this machine can carry it."""
        return self.why_not is None


def look_around(
    disk_free_bytes: int, root: Path = Path("/"), *, measured_bytes_per_s: float | None = None
) -> Machine:
    """This machine, as its kernel describes it below `root`.

    `measured_bytes_per_s`: a known model's bytes times its measured tokens a second, where somebody
    measured; better than the guess of `guessed_bytes_per_s`.
    """
    here = describe(root)
    total = here.memory.total or 0
    available = total if here.memory.available is None else here.memory.available
    speed = measured_bytes_per_s or guessed_bytes_per_s(here.workers, here.board or "")
    return Machine(total, available, disk_free_bytes, here.workers, speed)


def guessed_bytes_per_s(cores: int, board: str = "") -> float:
    """How quickly weights are read from memory here; a guess that may be wrong by a factor of two.

    One token reads all weights once, so tokens a second ≈ this ÷ size of the file. A core draws about
    3.2 GB/s of 4-bit weights (measured: 98 MB at 66 tokens/s on two x86 cores with AVX2); all cores
    together draw at most about 25 GB/s from two channels of memory. Known boards have their own
    number. Graphics cards are not counted: the embedded model runs on the processor.
    """
    for name, bytes_per_s in _BOARDS:
        if name in board:
            return float(bytes_per_s)
    return min(cores * _CORE_BYTES_PER_S, _MACHINE_BYTES_PER_S)


def expected_tokens_per_s(model: CataloguedModel, machine: Machine) -> float:
    """A rough expectation: memory read a second ÷ memory read for a token, see `guessed_bytes_per_s`."""
    return machine.bytes_per_s / model.download_bytes


def recommend(
    machine: Machine, *, all_models: bool = False, catalogue: Sequence[CataloguedModel] = CATALOGUE
) -> list[Recommendation]:
    """What this machine can carry, best first: the ablest that answers comfortably, then the less
    able, then those that would be slow, the quickest first. With `all_models` the rest follows, saying why not."""
    judged = [_judge(model, machine) for model in catalogue]
    shown = [(place, r) for place, r in enumerate(judged) if all_models or r.fits]
    return [r for _, r in sorted(shown, key=lambda one: _rank(*one))]


def find(name: str, catalogue: Sequence[CataloguedModel] = CATALOGUE) -> CataloguedModel | None:
    """The recommended model of this name, whatever its capitals."""
    for model in catalogue:
        if model.name.lower() == name.lower():
            return model
    return None


def _rank(place: int, recommendation: Recommendation) -> tuple[bool, bool, bool, float]:
    slow = recommendation.tokens_per_s < COMFORTABLE_TOKENS_PER_S
    last = -recommendation.tokens_per_s if slow else float(-place)
    return (not recommendation.fits, slow, recommendation.tight, last)


def _judge(model: CataloguedModel, machine: Machine) -> Recommendation:
    needed = model.memory_bytes(min(8192, model.context_tokens))
    why_not = None
    if needed > machine.budget_bytes:
        why_not = f"needs {needed / GB:.1f} GB of memory; a model may take {machine.budget_bytes / GB:.1f} GB here"
    elif model.download_bytes > machine.disk_free_bytes:
        why_not = f"needs {model.download_bytes / GB:.1f} GB of disk; {machine.disk_free_bytes / GB:.1f} GB are free"
    speed = expected_tokens_per_s(model, machine)
    return Recommendation(model, needed, speed, why_not, tight=needed > machine.available_bytes)
