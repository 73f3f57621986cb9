"""`make bench`: one table, and `bench/results/<time>.json`."""

import argparse
import json
import os
import platform
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import cache, rest, talk
from bench.harness import ROOT, Row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    parser.add_argument("--only", choices=["talk", "cache", "start", "install"], help="one part")
    chosen = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="mongars-bench-") as name:
        workspace = Path(name)
        if chosen.only in (None, "talk"):
            rows += talk.run(workspace, chosen.quick)
        if chosen.only in (None, "cache"):
            rows.append(cache.run(workspace, chosen.quick))
        if chosen.only in (None, "start"):
            rows += rest.start(workspace, chosen.quick)
        if chosen.only in (None, "install"):
            rows.append(rest.install(workspace))
    table = Table("what", "measured", "at least", "aim", "met")
    for row in rows:
        table.add_row(row.what, row.measured, row.at_least, row.aim, "yes" if row.met else "NO")
    Console(width=140).print(table)
    at = datetime.now(UTC)
    told = {
        "at": at.isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        "rows": [asdict(row) for row in rows],
    }
    results = ROOT / "bench" / "results"
    results.mkdir(exist_ok=True)
    path = results / f"{at:%Y%m%dT%H%M%SZ}.json"
    path.write_text(json.dumps(told, indent=2, ensure_ascii=False, default=str) + "\n")
    Console().print(f"written to {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
