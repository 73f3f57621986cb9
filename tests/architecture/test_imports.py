"""Importing only defines things, and what is not needed is not loaded."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]

WATCHED = """
import json, os, sys
told = {"written": [], "read": [], "connected": [], "started": []}
def watch(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        path, mode, flags = os.fsdecode(arguments[0]), arguments[1], arguments[2]
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if path != os.devnull and "__pycache__" not in path:
            told["written" if writes else "read"].append(path)
    elif event in ("socket.connect", "socket.bind", "socket.getaddrinfo"):
        told["connected"].append(event)
    elif event in ("subprocess.Popen", "os.system", "os.fork", "os.posix_spawn"):
        told["started"].append(event)
sys.addaudithook(watch)
"""

TELL = """
told["modules"] = sorted(sys.modules)
import threading
told["threads"] = [one.name for one in threading.enumerate()]
print(json.dumps(told))
"""

TRAINING = {"torch", "transformers", "peft", "trl", "ray"}
SOURCE = (".py", ".pyc", ".so", ".dylib", ".pth", ".zip")


def after(code: str) -> Any:
    """What a fresh interpreter did and holds after running this code."""
    ran = subprocess.run(
        [sys.executable, "-P", "-c", f"{WATCHED}\n{code}\n{TELL}"],
        cwd="/",
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    return json.loads(ran.stdout)


def data_files(told: Any) -> list[str]:
    """Files that were read and that are no code, nor what every Python looks at."""
    return [
        path
        for path in told["read"]
        if not path.endswith(SOURCE)
        and not path.startswith(("/proc/", "/sys/", "/dev/", "/etc/"))
        and "dist-info" not in path  # the versions of packages, as importlib.metadata reads them
        and "site-packages" not in path
        and not Path(path).is_dir()
    ]


def test_importing_the_api_loads_no_training_and_opens_no_file() -> None:
    told = after("import mongars.api.app, mongars.body, mongars.server")
    loaded = {name.partition(".")[0] for name in told["modules"]}
    assert loaded & TRAINING == set()
    assert told["written"] == []
    assert data_files(told) == []
    assert told["connected"] == told["started"] == []
    assert told["threads"] == ["MainThread"]


@pytest.mark.slow
def test_every_module_can_be_imported_and_only_defines_things() -> None:
    names = []
    for path in sorted((ROOT / "mongars").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if "versions" in parts or parts[-1] == "env":  # alembic runs these, and only it can
            continue
        names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    assert "mongars.cli.program" in names
    told = after(f"import importlib\nfor name in {names!r}: importlib.import_module(name)")
    assert told["written"] == []
    assert data_files(told) == []
    assert told["connected"] == told["started"] == []
    assert told["threads"] == ["MainThread"]
    assert {name.partition(".")[0] for name in told["modules"]} & TRAINING == set()


def test_the_command_line_loads_only_what_every_command_needs() -> None:
    told = after("import mongars.cli")
    loaded = {name.partition(".")[0] for name in told["modules"]}
    heavy = {"sqlalchemy", "fastapi", "pydantic", "django", "httpx", "rich", "numpy", "structlog"}
    assert loaded & heavy == set()


def test_help_comes_within_four_tenths_of_a_second() -> None:
    def seconds() -> float:
        code = (
            "import resource, subprocess, sys;"
            "subprocess.run([sys.executable, '-P', '-m', 'mongars', '--help'], check=True,"
            " stdout=subprocess.DEVNULL);"
            "used = resource.getrusage(resource.RUSAGE_CHILDREN);"
            "print(used.ru_utime + used.ru_stime)"
        )
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        ran = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return float(ran.stdout)

    # Processor seconds of the best of three: what the clock shows depends on who else is working.
    assert min(seconds() for _ in range(3)) < 0.4
