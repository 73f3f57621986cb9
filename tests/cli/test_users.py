"""People, from the command line, as real processes."""

import json
import stat
from pathlib import Path

import httpx
import pytest

from tests.cli.running import PASSWORD, mongars, serving

pytestmark = pytest.mark.slow


def listed(data: Path) -> dict[str, dict[str, object]]:
    """Everybody by name."""
    told = mongars("users", "list", "--json", data=data)
    assert told.returncode == 0, told.stderr
    return {one["username"]: one for one in json.loads(told.stdout)["items"]}


def test_people_are_added_listed_changed_and_kept_out(tmp_path: Path) -> None:
    data = tmp_path / "data"
    added = mongars(
        "users", "add", "marie", "--admin", "--password-stdin", data=data, said=PASSWORD
    )
    assert (added.returncode, added.stderr) == (0, "")
    assert (
        mongars("users", "add", "paul", "--password-stdin", data=data, said=PASSWORD).returncode
        == 0
    )
    assert {name: one["role"] for name, one in listed(data).items()} == {
        "marie": "admin",
        "paul": "user",
    }
    for change in (("role", "paul", "admin"), ("disable", "paul")):
        assert mongars("users", *change, data=data).returncode == 0
    changed = listed(data)["paul"]
    assert (changed["role"], changed["disabled"]) == ("admin", True)
    assert mongars("users", "enable", "paul", data=data).returncode == 0
    assert listed(data)["paul"]["disabled"] is False
    files = [path for path in data.rglob("*") if path.is_file()]
    assert {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in files} == {0}
    assert stat.S_IMODE(data.stat().st_mode) == 0o700


def test_who_is_first_without_being_an_admin_is_told(tmp_path: Path) -> None:
    added = mongars("users", "add", "paul", "--password-stdin", data=tmp_path / "d", said=PASSWORD)
    assert (added.returncode, added.stdout) == (0, "paul can sign in now (user).\n")
    assert added.stderr == "Nobody is an admin yet: mongars users role paul admin\n"


def test_what_is_refused_says_why_and_changes_nothing(tmp_path: Path) -> None:
    data = tmp_path / "data"
    weak = mongars("users", "add", "marie", "--password-stdin", data=data, said="password1234")
    assert weak.returncode == 2
    assert "password" in weak.stderr.lower()
    assert "password1234" not in weak.stderr
    assert mongars("users", "add", "marie", data=data).returncode == 2  # nobody can type
    nobody = mongars("users", "disable", "marie", data=data)
    assert nobody.returncode == 1
    assert nobody.stderr.count("\n") == 1


def test_a_password_set_beside_a_running_server_holds_at_once(tmp_path: Path) -> None:
    data, other = tmp_path / "data", "another-long-staple-battery-77"
    mongars("users", "add", "marie", "--password-stdin", data=data, said=PASSWORD)
    with serving(data, "--only", "api") as served:

        def signed_in(password: str) -> int:
            form = {"grant_type": "password", "username": "marie", "password": password}
            return httpx.post(f"{served.url}/api/v1/token", data=form).status_code

        assert signed_in(PASSWORD) == 200
        assert (
            mongars(
                "users", "passwd", "marie", "--password-stdin", data=data, said=other
            ).returncode
            == 0
        )
        assert signed_in(PASSWORD) == 401
        assert signed_in(other) == 200
