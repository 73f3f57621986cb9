"""Texts to vectors."""

from mongars.neurons.settings import NeuronsSettings

__all__ = ["NeuronsSettings"]
