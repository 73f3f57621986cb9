"""Settings of a turn, and the limits that hold everywhere."""

from mongars.organ import OrganSettings


class CortexSettings(OrganSettings):
    """How answers are made and kept."""

    group_ms: float = 40.0
    """For how long events of running answers are gathered before they are stored, in milliseconds."""

    lease_s: float = 10.0
    """How long a process may be silent, in seconds, before another one takes its answers over."""

    grace_s: float = 5.0
    """How long running answers may go on when the server is asked to stop, in seconds."""

    events_hours: int = 24
    """How long the single events of an answer are kept, in hours; the answer itself stays."""

    answer_tokens: int = 1024
    """Tokens of the model's context that are kept free for the answer (at most a quarter of it)."""

    titles: bool = True
    """Whether the model names a conversation after its first answer."""


class LimitsSettings(OrganSettings):
    """Limits that hold everywhere."""

    messages_per_minute: int = 60
    """How many messages a person may send in any minute."""

    turns_per_person: int = 4
    """How many answers may be made for one person at the same time."""

    body_bytes: int = 1_048_576
    """How long the body of a request may be, in bytes (files and imports have limits of their own)."""

    message_chars: int = 32_000
    """How long a message may be, in characters."""
