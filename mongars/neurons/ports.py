"""The port of encoders."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors: TypeAlias = "NDArray[np.float32]"

Kind = Literal["query", "passage"]
"""What a text is: a question, or what is to be found by one. Some models tell them apart."""


@dataclass(frozen=True)
class EncoderCard:
    """Which encoder this is.

    Vectors of two encoders can be compared only when their `digest` is the same.
    """

    name: str
    digest: str
    dimension: int


class Encoder(Protocol):
    """Makes vectors of texts: one at least, each valid Unicode (`Neurons` sees to both).

    Faults: `Unavailable` when it does not answer or not with vectors; `NotConfigured` when a
    package, a key or a model's name is missing; `Missing` for a model that its server has not.
    """

    async def card(self) -> EncoderCard:
        """Which encoder this is; may have to ask a server the first time."""
        ...

    async def encode(self, texts: Sequence[str], *, kind: Kind) -> "Vectors":
        """Vectors of these texts in their order: `[n, dimension]`, each of length 1."""
        ...

    async def count_tokens(self, texts: Sequence[str]) -> list[int] | None:
        """Tokens of each text as this encoder reads it; `None` where it cannot tell."""
        ...
