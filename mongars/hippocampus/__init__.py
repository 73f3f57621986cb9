"""(Memory) What was said: kept, found again, corrected, forgotten."""

from mongars.hippocampus.message import Conversation, Message, MessageState, Role
from mongars.hippocampus.store import (
    add_message,
    add_messages,
    branch,
    children,
    close_message,
    conversation,
    create_conversation,
    message,
    set_active_leaf,
    set_title,
)

__all__ = [
    "Conversation",
    "Message",
    "MessageState",
    "Role",
    "add_message",
    "add_messages",
    "branch",
    "children",
    "close_message",
    "conversation",
    "create_conversation",
    "message",
    "set_active_leaf",
    "set_title",
]
