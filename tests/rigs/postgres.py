"""A real PostgreSQL server in a temporary folder, with its durable defaults."""

from __future__ import annotations

import contextlib
import getpass
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import psycopg

from tests.rigs.need import missing
from tests.rigs.processes import Process, free_port


class Postgres:
    """One server; each test gets a database of its own."""

    def __init__(self) -> None:
        self._bin = _programs()
        self._user = _unprivileged_user()
        self._folder = Path(tempfile.mkdtemp(prefix="radbridge-postgres-"))
        self._numbers = itertools.count(1)
        self._process: Process | None = None
        self.port = free_port()
        if self._user:
            shutil.chown(self._folder, self._user)
        self._initialise()
        self.start()

    def start(self) -> None:
        """Start it, or start it again after :meth:`halt` or :meth:`kill`; returns when it answers."""
        command = [self._bin / "postgres", "-D", self._folder / "data", "-p", str(self.port)]
        options = ["listen_addresses=127.0.0.1", f"unix_socket_directories={self._folder}", "max_connections=200"]
        command += [part for option in options for part in ("-c", option)]
        log = self._folder / "server.log"
        self._process = Process(command, log, user=self._user, cwd=self._folder)
        self._process.wait_until(self._answers)

    def halt(self, number: int = signal.SIGINT) -> None:
        """End it as ``pg_ctl stop`` does: SIGINT in mode fast, SIGQUIT in mode immediate; its disk stays."""
        if self._process:
            self._process.stop(number, 60)
            self._process = None

    def kill(self) -> None:
        """As in a crash of the server; its disk stays."""
        if self._process:
            self._process.kill()
            self._process = None

    def stop(self) -> None:
        """End it and remove its folder."""
        if self._process:
            self._process.stop(signal.SIGINT)
            self._process = None
        shutil.rmtree(self._folder, ignore_errors=True)

    def new_database(self) -> str:
        """SQLAlchemy URL of a new, empty database."""
        name = f"test_{next(self._numbers)}"
        with self._connection() as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return f"postgresql+psycopg://radbridge@127.0.0.1:{self.port}/{name}"

    def drop(self, url: str) -> None:
        """Remove a database, whoever is connected to it."""
        if self._process:
            with self._connection() as connection:
                connection.execute(f'DROP DATABASE IF EXISTS "{url.rpartition("/")[2]}" WITH (FORCE)')

    def _initialise(self) -> None:
        command = [self._bin / "initdb", "-D", self._folder / "data", "-U", "radbridge", "-A", "trust"]
        command += ["-E", "UTF8", "--locale=C", "--no-sync"]
        done = subprocess.run(
            command,
            cwd=self._folder,
            user=self._user,
            extra_groups=[] if self._user else None,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def _connection(self) -> psycopg.Connection:
        return psycopg.connect(f"postgresql://radbridge@127.0.0.1:{self.port}/postgres", autocommit=True)

    def _answers(self) -> bool:
        with contextlib.suppress(psycopg.OperationalError), self._connection():
            return True
        return False


def _programs() -> Path:
    """Folder of the newest installed server's programs; Debian does not put them on the path."""
    folders = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if folders:
        return max(folders, key=lambda folder: float(folder.parent.name))
    found = shutil.which("initdb")
    if not found:
        missing("PostgreSQL", "apt-get install postgresql")
    assert found
    return Path(found).resolve().parent


def _unprivileged_user() -> str | None:
    """PostgreSQL refuses to run as root: the user to run it as, None when we are no root."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in known), getpass.getuser())
