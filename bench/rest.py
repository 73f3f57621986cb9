"""What it costs to have monGARS there: start, memory, disk."""

import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench.harness import ROOT, Row, served, spread


def start(workspace: Path, quick: bool) -> list[Row]:
    """Cold start to `/healthz` (disk warm), and idle memory 20 s after it."""
    took, memory = [], []
    for n in range(2 if quick else 5):
        with served(workspace / f"start-{n}") as server:
            took.append(server.cold_start_s)
            if n == 0:
                time.sleep(20)
                memory.append(sum(p.memory_full_info().pss for p in server.own()) / 1e6)
    cold = statistics.median(took)
    return [
        Row(
            "cold start to /healthz",
            f"{cold:.2f} s",
            "3 s",
            "1.5 s",
            cold <= 3,
            {"s": spread(took, digits=2)},
        ),
        Row(
            "idle PSS of all processes but the model's",
            f"{memory[0]:.0f} MB",
            "200 MB",
            "120 MB",
            memory[0] <= 200,
        ),
    ]


def install(workspace: Path) -> Row:
    """Packages and disk of the serving install with the model, as `make install` makes it."""
    venv = workspace / "venv"
    subprocess.run(
        ["make", "-s", "install", f"VENV={venv}"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL
    )
    listed = subprocess.run(
        [
            venv / "bin" / "python",
            "-c",
            "import importlib.metadata as m; print(len(list(m.distributions())))",
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    packages = int(listed.stdout)
    size = sum(f.lstat().st_blocks * 512 for f in venv.rglob("*")) / 1e6
    return Row(
        "packages; disk of the serving install with model",
        f"{packages}; {size:.0f} MB",
        "110; 600 MB",
        "80; 450 MB",
        packages <= 110 and size <= 600,
        {"python": sys.version.split()[0]},
    )
