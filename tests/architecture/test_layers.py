"""The order of the map is kept."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_organs_import_downwards_and_only_through_the_order_of_the_map() -> None:
    checked = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert checked.returncode == 0, checked.stdout[-4000:] + checked.stderr[-1000:]


def test_an_organ_is_reached_only_through_its_door() -> None:
    """`from mongars.llm import X`; never `from mongars.llm.request import X` from another organ."""
    through_the_wall = []
    for path in (ROOT / "mongars").rglob("*.py"):
        organ = path.relative_to(ROOT / "mongars").parts[0]
        for number, line in enumerate(path.read_text().splitlines(), 1):
            words = line.split()
            if len(words) < 2 or words[0] not in ("from", "import"):
                continue
            parts = words[1].split(".")
            if parts[0] != "mongars" or len(parts) < 3 or parts[1] == organ:
                continue
            if parts[1] in WAYS_IN or (parts[1], parts[2]) in DOORS_BESIDE:
                continue
            through_the_wall.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    assert through_the_wall == []


WAYS_IN = {"api", "web", "cli"}
"""Not organs: the server and the command line take the API's application and its border from within."""

DOORS_BESIDE = {("database", "rls")}
"""What migrations use beside the door."""
