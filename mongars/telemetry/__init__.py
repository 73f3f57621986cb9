"""What this process tells about itself: logs, metrics, traces. Never texts, never secrets."""

from mongars.telemetry.settings import TelemetrySettings
from mongars.telemetry.telemetry import LEVELS, Telemetry, configure_logs

__all__ = ["LEVELS", "Telemetry", "TelemetrySettings", "configure_logs"]
