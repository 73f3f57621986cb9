"""Leaving a server alone for a while when it does not answer."""

from mongars.circuit.circuit import Attempt, CircuitBreaker, State
from mongars.circuit.settings import CircuitSettings

__all__ = ["Attempt", "CircuitBreaker", "CircuitSettings", "State"]
