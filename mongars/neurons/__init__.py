"""Texts to vectors."""

from mongars.neurons.neurons import Neurons
from mongars.neurons.ports import Encoder, EncoderCard, Kind
from mongars.neurons.settings import NeuronsSettings

__all__ = ["Encoder", "EncoderCard", "Kind", "Neurons", "NeuronsSettings"]
