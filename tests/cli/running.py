"""`mongars` as a real process."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.servers import free_port

ROOT = Path(__file__).resolve().parents[2]
TWIN = "mongars.testing.models:ScriptedModel"
PASSWORD = "correct-horse-battery-staple-42"
PROGRAM = [sys.executable, "-P", "-m", "mongars"]


def environment(**more: str) -> dict[str, str]:
    """The environment without settings of the person who runs the tests, over the scripted model."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MONGARS_")}
    return {**kept, "PYTHONPATH": str(ROOT), "MONGARS_LLM__BACKEND": TWIN, "COLUMNS": "100", **more}


def mongars(
    *arguments: str | Path, data: Path | None = None, said: str | None = None, **more: str
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; `said` is its stdin, and never a terminal."""
    placed = ["--data", data] if data else []
    return subprocess.run(
        [*PROGRAM, *placed, *arguments],
        cwd="/",
        env=environment(**more),
        input=said if said is not None else "",
        capture_output=True,
        text=True,
        timeout=60,
    )


@dataclass(frozen=True)
class Served:
    """A server over a data directory."""

    url: str
    data: Path
    process: subprocess.Popen[str]


@contextlib.contextmanager
def serving(data: Path, *arguments: str, **more: str) -> Iterator[Served]:
    """`mongars serve`, from its first answer to its end."""
    port = free_port()
    process = subprocess.Popen(
        [*PROGRAM, "--data", str(data), "serve", "--port", str(port), *arguments],
        cwd="/",
        env=environment(**more),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        until = time.monotonic() + 30
        for line in process.stdout:
            if line.startswith("http"):
                yield Served(line.strip(), data, process)
                break
            assert time.monotonic() < until, "the server said no address"
        else:
            raise AssertionError(f"serve ended with {process.wait(5)}")
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(15)
        process.kill()
        process.stdout.close() if process.stdout else None
