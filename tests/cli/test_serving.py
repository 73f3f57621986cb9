"""`serve` and `migrate` as real processes."""

import json
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from tests.cli.running import mongars, serving
from tests.servers import free_port

pytestmark = pytest.mark.slow


def test_serve_prints_its_address_answers_and_ends_cleanly(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serving(data, "--only", "api") as served:
        assert httpx.get(f"{served.url}/healthz").status_code == 200
        told = json.loads((data / "server.json").read_text())
        assert told == {"url": served.url, "pid": served.process.pid}
        began = time.monotonic()
        served.process.send_signal(signal.SIGINT)
        served.process.wait(10)
        assert time.monotonic() - began < 10
        assert served.process.returncode == 0
    assert not (data / "server.json").exists()


def test_a_taken_port_is_said_in_one_line(tmp_path: Path) -> None:
    with serving(tmp_path / "one", "--only", "api") as served:
        port = served.url.rpartition(":")[2]
        told = mongars("serve", "--only", "api", "--port", port, data=tmp_path / "two")
    assert told.returncode == 3
    assert told.stderr.strip().splitlines()[-1].startswith("mongars: ")
    assert "--port" in told.stderr
    assert "Traceback" not in told.stderr


def test_two_servers_run_side_by_side(tmp_path: Path) -> None:
    with (
        serving(tmp_path / "one", "--only", "api") as one,
        serving(tmp_path / "two", "--only", "api") as two,
    ):
        assert {httpx.get(f"{url}/healthz").status_code for url in (one.url, two.url)} == {200}


def test_a_directory_that_is_served_is_not_served_twice(tmp_path: Path) -> None:
    with serving(tmp_path / "one", "--only", "api") as served:
        port = str(free_port())
        told = mongars("serve", "--only", "api", "--port", port, data=tmp_path / "one")
        assert told.returncode == 3
        assert "is served already" in told.stderr
        assert "Traceback" not in told.stderr
        assert json.loads((tmp_path / "one" / "server.json").read_text())["url"] == served.url
    with serving(tmp_path / "one", "--only", "api") as again:
        assert httpx.get(f"{again.url}/healthz").status_code == 200


def test_migrate_makes_the_schema_once_and_saves_before_it_changes_one(tmp_path: Path) -> None:
    data = tmp_path / "data"
    first = json.loads(mongars("migrate", "--json", data=data).stdout)
    assert first["before"] is None
    assert first["after"]
    assert first["backup"] is None
    again = json.loads(mongars("migrate", "--json", data=data).stdout)
    assert again == {"before": first["after"], "after": first["after"], "backup": None}


async def test_an_older_schema_is_saved_before_it_is_changed(tmp_path: Path) -> None:
    from mongars.database import Database, DatabaseSettings, migrate

    data = tmp_path / "data"
    data.mkdir()
    async with Database.open(DatabaseSettings(), data) as database:
        await migrate.upgrade(database, "0001")
    told = json.loads(mongars("migrate", "--json", data=data).stdout)
    assert told["before"] == "0001"
    saved = Path(told["backup"])
    assert saved.is_relative_to(data / "backups")
    back = mongars("restore", saved, "--yes", "--json", data=tmp_path / "other")
    assert back.returncode == 0, back.stderr
    with closing(sqlite3.connect(tmp_path / "other" / "mongars.db")) as database_file:
        at = database_file.execute("SELECT version_num FROM alembic_version").fetchone()
    assert at == ("0001",)


def test_a_backup_is_made_beside_a_running_server_and_not_restored_under_it(tmp_path: Path) -> None:
    data, saved = tmp_path / "data", tmp_path / "saved.tar"
    with serving(data, "--only", "api"):
        assert mongars("backup", saved, data=data).returncode == 0
        refused = mongars("restore", saved, "--yes", data=data)
        assert refused.returncode == 1
        assert "stop it first" in refused.stderr
    unasked = mongars("restore", saved, data=data)
    assert unasked.returncode == 2
    assert "--yes" in unasked.stderr
    assert mongars("restore", saved, "--yes", data=data).returncode == 0
    assert mongars("backup", saved, data=data).returncode == 1  # never overwritten


def test_backup_of_postgresql_says_that_it_is_not_built(tmp_path: Path) -> None:
    told = mongars(
        "backup", data=tmp_path, MONGARS_DATABASE__URL="postgresql://u:geheim@127.0.0.1/x"
    )
    assert told.returncode == 3
    assert "pg_dump" in told.stderr
    assert "geheim" not in told.stderr


def test_the_doctor_looks_at_a_fresh_machine_and_at_a_broken_one(tmp_path: Path) -> None:
    port = str(free_port())
    well = mongars("doctor", "--json", data=tmp_path / "data", MONGARS_API__PORT=port)
    assert well.returncode == 0, well.stdout
    assert json.loads(well.stdout)["ok"] is True
    broken = mongars("doctor", data=tmp_path / "data", MONGARS_REDIS__URL="redis://127.0.0.1:1/0")
    assert broken.returncode == 1
    assert "redis" in broken.stdout
    assert "→" in broken.stdout
