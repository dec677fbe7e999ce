"""A real PostgreSQL server in a temporary folder, reached over its socket; it can be stopped and started again."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from pathlib import Path

OPTIONS = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "listen_addresses=", "max_connections=200")

INITIALLY = ("-U", "ouroscope", "-A", "trust", "-E", "UTF8", "--locale=C", "-N", "--wal-segsize=1")


class PostgresServer:
    """One server with as many databases as are asked for. It refuses to run as root, so another user owns it there."""

    def __init__(self, programs: Path, disk: Path | None = None) -> None:
        """Make what it needs; with a disk that its user can write, its files and its log of changes lie there."""
        self._programs = programs
        self._user = owner()
        # Short, since the path of a socket is limited; not in the folder of a test, which only its owner can enter.
        self._folder = Path(tempfile.mkdtemp(prefix="pg-"))
        if self._user is not None:
            shutil.chown(self._folder, self._user)
        self._data = str((disk or self._folder) / "data")
        self._run("initdb", "-D", self._data, *INITIALLY)
        with Path(self._data, "postgresql.conf").open("a") as file:
            lines = (*OPTIONS, f"unix_socket_directories={self._folder}")
            file.writelines("{} = '{}'\n".format(*line.split("=", 1)) for line in lines)

    def start(self) -> None:
        """Start it and return when it answers."""
        self._run("pg_ctl", "start", "-D", self._data, "-l", str(self._folder / "log"), "-w", "-t", "60")

    def restart(self) -> None:
        """Start it anew, whatever state it is in: as an operator who finds it down, or about to be."""
        self._run("pg_ctl", "restart", "-D", self._data, "-l", str(self._folder / "log"), "-m", "immediate", "-w")

    def stop(self, mode: str = "fast") -> None:
        """Stop it: `fast` ends its sessions, `immediate` is as if it were killed."""
        self._run("pg_ctl", "stop", "-D", self._data, "-m", mode, "-w", "-t", "60")

    def remove(self) -> None:
        """Stop it, if it runs, and leave nothing."""
        if Path(self._data, "postmaster.pid").exists():
            self.stop("immediate")
        shutil.rmtree(self._folder)

    def database(self, tablespace: str = "pg_default") -> str:
        """Make an empty database and return its URL as an operator would write it."""
        name = f"test_{uuid.uuid4().hex}"
        self.do(f'CREATE DATABASE "{name}" TABLESPACE "{tablespace}"')
        return self.url(name)

    def do(self, *commands: str, url: str | None = None) -> None:
        """Carry out commands of SQL, each by itself."""
        import psycopg  # only who has a server needs it

        with psycopg.connect(url or self.url("postgres"), autocommit=True) as connection:
            for command in commands:
                connection.execute(command)

    def url(self, name: str) -> str:
        """Return the URL of a database."""
        return f"postgresql://ouroscope@/{name}?host={self._folder}"

    def program(self, name: str) -> str:
        """Return the path of one of its programs, such as pg_dump."""
        return str(self._programs / name)

    def _run(self, name: str, *arguments: str) -> None:
        command = [self.program(name), *arguments]
        # Into a file: a server that pg_ctl leaves behind would hold a pipe open for ever.
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(
                command, user=self._user, cwd="/", stdout=output, stderr=output, stdin=subprocess.DEVNULL, check=False
            )
            output.seek(0)
            assert done.returncode == 0, f"{name}: {output.read().decode()[-2000:]}"


def owner() -> str | None:
    """Return the user whom servers and their files belong to, where that is another one than who runs the tests."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"
