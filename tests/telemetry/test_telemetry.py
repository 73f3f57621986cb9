"""What the log may hold, and what never."""

import subprocess
import sys

import pytest

FAILING = """
import logging
import structlog
from mongars.telemetry import TelemetrySettings, configure_logs
configure_logs(TelemetrySettings(log_format={form!r}))
def fail(password):
    authorization = "Bearer " + password
    raise ValueError("it broke")
try:
    fail("hunter2-hunter2")
except ValueError:
    structlog.get_logger().exception("api.bug", password="hunter2-hunter2")
    logging.getLogger("uvicorn.error").exception("Exception in ASGI application")
"""


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_failure_is_logged_with_its_place_and_without_the_values_of_variables(form: str) -> None:
    code = FAILING.format(form=form)
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stderr.count("it broke") >= 2
    assert "fail" in told.stderr
    assert "hunter2" not in told.stderr
