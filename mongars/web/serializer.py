"""Sessions in Redis as JSON, never as pickles."""

import json
from typing import Any


class JsonSerializer:
    """What Django's Redis cache asks of a serializer."""

    def dumps(self, value: Any) -> bytes:
        """To bytes."""
        return json.dumps(value, separators=(",", ":")).encode()

    def loads(self, data: bytes) -> Any:
        """And back."""
        return json.loads(data)
