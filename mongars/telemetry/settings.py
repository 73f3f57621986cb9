"""Settings of logs, metrics and traces."""

from typing import Literal

from mongars.organ import OrganSettings


class TelemetrySettings(OrganSettings):
    """Logs, metrics and traces."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least important log lines that are written."""

    log_format: Literal["auto", "text", "json"] = "auto"
    """`text` for people, `json` for machines; `auto`: text on a terminal."""

    otlp_endpoint: str | None = None
    """Base address of an OpenTelemetry collector (OTLP over HTTP), as in `http://localhost:4318`."""

    trace_share: float = 1.0
    """Share of turns that are traced when a collector is configured, from 0 to 1."""
