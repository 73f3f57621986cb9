"""The documentation: its links lead somewhere, and it needs no internet."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"!?\[[^\]]*\]\((?!https?:|mailto:|#)([^)#\s]+)")
WRITTEN = ["README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "CHANGELOG.md"]
FETCHED = re.compile(r"""<(?:script|link|img|iframe)[^>]+(?:src|href)=["']?(?:https?:)?//""")


@pytest.mark.parametrize("name", WRITTEN)
def test_the_links_of_the_front_pages_lead_somewhere(name: str) -> None:
    broken = [
        target for target in LINK.findall((ROOT / name).read_text()) if not (ROOT / target).exists()
    ]
    assert broken == []


def test_the_commands_that_the_documents_name_exist() -> None:
    from typer.main import get_command

    from mongars.cli.program import app

    known = set(get_command(app).commands)  # type: ignore[attr-defined]
    named = {
        command
        for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
        for command in re.findall(
            r"^(?:\.venv/bin/)?mongars ([a-z]+)", path.read_text(), re.MULTILINE
        )
    }
    assert named - known == set()


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_fetches_nothing(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert built.returncode == 0, built.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 8
    assert [str(page) for page in pages if FETCHED.search(page.read_text())] == []
