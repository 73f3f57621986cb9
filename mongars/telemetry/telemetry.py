"""Logs by structlog, metrics and traces by OpenTelemetry.

Metrics have their OpenTelemetry names; in the Prometheus text dots become underscores, counters end
in `_total` and durations in `_seconds`. Traces leave this process only when a collector is named.
"""

import contextlib
import logging
import re
import sys
from collections.abc import Iterator, MutableMapping
from typing import Any

import structlog
from opentelemetry import metrics, trace

from mongars.telemetry.settings import TelemetrySettings

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}

WITHHELD = re.compile(
    r"(?i)password|secret|token$|authorization|cookie|api_key|^text$|^message$|^prompt$|^query$"
)


def withhold(
    _logger: Any, _method: str, line: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Drop what a log must never hold: secrets, and what people said."""
    for key in line:
        if WITHHELD.search(key):
            line[key] = "[withheld]"
    return line


def _with_trace(
    _logger: Any, _method: str, line: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        line["trace_id"] = format(context.trace_id, "032x")
    return line


def configure_logs(settings: TelemetrySettings) -> None:
    """One line an event, on stderr; foreign loggers speak through the same processors."""
    as_json = settings.log_format == "json" or (
        settings.log_format == "auto" and not sys.stderr.isatty()
    )
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _with_trace,
        withhold,
    ]
    last: list[Any] = (
        [
            # Never with the values of local variables: passwords and tokens are among them.
            structlog.processors.ExceptionRenderer(
                structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
            ),
            structlog.processors.JSONRenderer(),
        ]
        if as_json
        else [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        ]
    )
    level = LEVELS[settings.level]
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),  # as it is at that moment
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.WARNING))


class Telemetry:
    """Metrics as Prometheus reads them, and the way of traces to a collector."""

    def __init__(self, registry: Any) -> None:
        self._registry = registry

    @classmethod
    @contextlib.contextmanager
    def open(cls, settings: TelemetrySettings) -> Iterator["Telemetry"]:
        """Open it once per process: OpenTelemetry's providers are the process's own."""
        from opentelemetry.exporter.prometheus import PrometheusMetricReader
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.resources import Resource
        from prometheus_client import REGISTRY

        resource = Resource.create({"service.name": "mongars"})
        if not isinstance(metrics.get_meter_provider(), MeterProvider):
            readers = [PrometheusMetricReader()]
            metrics.set_meter_provider(MeterProvider(metric_readers=readers, resource=resource))
        shut = _trace_to(settings, resource) if settings.otlp_endpoint else None
        try:
            yield cls(REGISTRY)
        finally:
            if shut is not None:
                shut.shutdown()

    def exposition(self) -> bytes:
        """The metrics in Prometheus' text format."""
        from prometheus_client import generate_latest

        return generate_latest(self._registry)


def _trace_to(settings: TelemetrySettings, resource: Any) -> Any:
    """Send traces to the collector named in the settings; what must be shut at the end."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    provider = TracerProvider(
        resource=resource, sampler=ParentBased(TraceIdRatioBased(settings.trace_share))
    )
    endpoint = f"{(settings.otlp_endpoint or '').rstrip('/')}/v1/traces"
    processor = BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint))
    provider.add_span_processor(processor)
    trace.set_tracer_provider(provider)
    return processor
