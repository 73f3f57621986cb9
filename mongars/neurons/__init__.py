"""Texts to vectors."""

from typing import TYPE_CHECKING

from mongars.neurons.neurons import Neurons
from mongars.neurons.ports import Encoder, EncoderCard, Kind
from mongars.neurons.settings import NeuronsSettings

if TYPE_CHECKING:
    from mongars.neurons.ports import Vectors as Vectors

__all__ = ["Encoder", "EncoderCard", "Kind", "Neurons", "NeuronsSettings"]
