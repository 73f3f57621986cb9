"""What this process tells about itself: logs, metrics, traces. Never texts, never secrets."""

from mongars.telemetry.settings import TelemetrySettings
from mongars.telemetry.telemetry import Telemetry, configure_logs

__all__ = ["Telemetry", "TelemetrySettings", "configure_logs"]
