"""One turn of a conversation, from words in to words out: durable, streamed."""

from mongars.cortex.beginning import Key
from mongars.cortex.cortex import Cortex
from mongars.cortex.events import LAST, Event, FinishReason
from mongars.cortex.performing import problem_of
from mongars.cortex.prompt import SYSTEM_PROMPT
from mongars.cortex.settings import CortexSettings, LimitsSettings
from mongars.cortex.store import forget_person
from mongars.cortex.turn import Options, Said, Turn, TurnKind, TurnState

__all__ = [
    "LAST",
    "SYSTEM_PROMPT",
    "Cortex",
    "CortexSettings",
    "Event",
    "FinishReason",
    "Key",
    "LimitsSettings",
    "Options",
    "Said",
    "Turn",
    "TurnKind",
    "TurnState",
    "forget_person",
    "problem_of",
]
