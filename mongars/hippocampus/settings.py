"""Settings of what is kept."""

from mongars.organ import OrganSettings


class HippocampusSettings(OrganSettings):
    """Conversations and their messages."""

    restore_s: float = 10.0
    """How long a deleted conversation can be brought back, in seconds; then it is gone."""

    temporary_hours: float = 24.0
    """How long a temporary conversation is kept after the last word in it, in hours."""

    file_hours: float = 24.0
    """How long the file of an export lies ready, and an import that broke off is kept, in hours."""

    import_bytes: int = 2 * 1024**3
    """The largest file that is brought in, in bytes."""

    import_unpacked_bytes: int = 4 * 1024**3
    """What a zip file may unpack to, in bytes."""

    import_entry_bytes: int = 64 * 1024**2
    """The largest single conversation of a file, in characters."""
