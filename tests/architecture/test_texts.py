"""What must stand in no file of the repository."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Put together here, so that this file itself does not hold them.
REGISTRIES = [
    "pypi" + ".org",
    "python" + "hosted",
    "npmjs" + ".org",
    "anaconda" + ".org",
    "crates" + ".io",
    "--index" + "-url",
    "--extra-index" + "-url",
    "--find" + "-links",
]
UNFINISHED = re.compile(
    "|".join(["TO" + "DO", "FIX" + "ME", r"\bXX" + r"X\b", "NotImple" + "mented"])
)
ELSEWHERE = [
    "/work" + "/",
    "shared" + "/design",
    "shared" + "/research",
    "ROAD" + "MAP",
    "issues " + "show",
]


def tracked() -> Iterator[tuple[str, str]]:
    """Every text file that git knows, and what it says."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout: not on this platform")
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if not path.is_file():
            continue
        try:
            yield name, path.read_text()
        except UnicodeDecodeError:
            continue


def holders(wanted: list[str]) -> list[str]:
    """Files and the wanted words they hold."""
    return [f"{name}: {word}" for name, text in tracked() for word in wanted if word in text]


def test_no_file_names_a_package_registry() -> None:
    assert holders(REGISTRIES) == []


def test_the_makefile_names_no_address_to_fetch_from() -> None:
    text = (ROOT / "Makefile").read_text()
    assert re.findall(r"https?://(?!localhost)\S+", text) == []


def test_nothing_is_left_unfinished_in_the_code() -> None:
    unfinished = [
        f"{name}:{number}: {line.strip()}"
        for name, text in tracked()
        if name.endswith((".py", ".html", ".js", ".css", ".toml", ".yml", "Makefile"))
        for number, line in enumerate(text.splitlines(), 1)
        if UNFINISHED.search(line)
    ]
    assert unfinished == []


def test_no_file_speaks_of_where_it_was_written() -> None:
    assert holders(ELSEWHERE) == []
