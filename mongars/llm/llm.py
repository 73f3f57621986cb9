"""The door to every language model."""

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mongars.cache import TieredCache
from mongars.circuit import CircuitSettings
from mongars.llm.settings import LLMSettings


@dataclass(frozen=True)
class LLMStatus:
    """Which model answers, why this one, and how it is."""

    state: Literal["ready", "loading", "degraded", "away"]
    backend: str | None = None
    model: str | None = None
    why: str = ""
    detail: str = ""


class LLMIntegration:
    """One door to every language model."""

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls,
        settings: LLMSettings,
        circuit: CircuitSettings,
        data_dir: Path,
        cache: TieredCache | None = None,
    ) -> AsyncGenerator["LLMIntegration"]:
        """Open the backend that the settings name; a model is loaded behind this."""
        yield cls()

    def status(self) -> LLMStatus:
        """How it is right now, without asking anybody."""
        return LLMStatus("away")
