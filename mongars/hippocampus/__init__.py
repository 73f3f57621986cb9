"""(Memory) What was said: kept, found again, corrected, forgotten."""

from mongars.hippocampus.erasing import forget_person
from mongars.hippocampus.files import File
from mongars.hippocampus.hippocampus import FORMATS, Hippocampus, check_format, person_topic
from mongars.hippocampus.importing import Imported
from mongars.hippocampus.listing import Filter, Hit
from mongars.hippocampus.message import Conversation, Message, MessageState, Role
from mongars.hippocampus.paging import Part
from mongars.hippocampus.preset import Preset
from mongars.hippocampus.settings import HippocampusSettings
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
    "FORMATS",
    "Conversation",
    "File",
    "Filter",
    "Hippocampus",
    "HippocampusSettings",
    "Hit",
    "Imported",
    "Message",
    "MessageState",
    "Part",
    "Preset",
    "Role",
    "add_message",
    "add_messages",
    "branch",
    "check_format",
    "children",
    "close_message",
    "conversation",
    "create_conversation",
    "forget_person",
    "message",
    "person_topic",
    "set_active_leaf",
    "set_title",
]
