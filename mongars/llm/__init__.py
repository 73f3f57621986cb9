"""Language models: one door to every model, whichever server has it."""

from mongars.llm.jobs import PULL, register
from mongars.llm.llm import LLMIntegration, LLMStatus
from mongars.llm.models import Installed, Models, facts_of
from mongars.llm.ports import Health, LanguageModel
from mongars.llm.request import (
    AnswerEvent,
    Capabilities,
    ChatMessage,
    ChatRequest,
    Finished,
    FinishReason,
    Image,
    ModelCard,
    ModelEvent,
    Notice,
    Reading,
    Role,
    Started,
    Text,
    Thinking,
    ToolCall,
    Usage,
    Waiting,
)
from mongars.llm.settings import LLMSettings

__all__ = [
    "PULL",
    "AnswerEvent",
    "Capabilities",
    "ChatMessage",
    "ChatRequest",
    "FinishReason",
    "Finished",
    "Health",
    "Image",
    "Installed",
    "LLMIntegration",
    "LLMSettings",
    "LLMStatus",
    "LanguageModel",
    "ModelCard",
    "ModelEvent",
    "Models",
    "Notice",
    "Reading",
    "Role",
    "Started",
    "Text",
    "Thinking",
    "ToolCall",
    "Usage",
    "Waiting",
    "facts_of",
    "register",
]
