"""The HTTP and WebSocket way in."""
