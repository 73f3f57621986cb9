"""(Memory) What was said: kept, found again, corrected, forgotten."""

from mongars.hippocampus.message import Conversation, Message, MessageState, Role

__all__ = ["Conversation", "Message", "MessageState", "Role"]
