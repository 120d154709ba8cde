"""The embedded PostgreSQL: a private server in a folder, shared by processes, stopped by the last."""

import importlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from dbsession.backends.embedded import start_server
from dbsession.backends.urls import make_backend
from dbsession.errors import BindingError, OperationalError

pytestmark = pytest.mark.slow

SCRIPT = """
import sys
from dbsession.backends.statements import Kind, Statement
from dbsession.backends.urls import make_backend

backend = make_backend(sys.argv[1])
connection = backend.acquire()
for sql in sys.argv[2:]:
    (result,) = connection.execute((Statement(sql, None, Kind.RAW),))
print(backend.url, result.rows[0][0])
backend.release(connection)
if sys.stdin.readline() == "inner":
    pass
backend.close()
"""


def script(url, *sql, cwd):
    """Start a process that runs *sql* in the embedded database, and waits for a line."""
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, url, *sql],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    """Let *process* end, and return what it printed."""
    out, err = process.communicate("\n")
    assert process.returncode == 0, err
    return out.split()


@pytest.fixture(autouse=True)
def _without_settings_of_libpq(monkeypatch):
    for name in [name for name in os.environ if name.startswith("PG")]:
        monkeypatch.delenv(name)


@pytest.fixture
def folder():
    """A folder that the server's own user can reach: root's `tmp_path` is closed to others."""
    with tempfile.TemporaryDirectory(prefix="dbsession-") as folder:
        yield Path(folder)


@pytest.mark.parametrize("version", [16, 18])
def test_server_starts_stops_and_keeps_its_data(folder, version):
    """The first process makes the folder, the last one stops the server, and the next one finds the data."""
    url = "embedded-postgresql:///./data"
    first = script(f"{url}?version={version}", "CREATE TABLE t AS SELECT 7 AS a", "SELECT a FROM t", cwd=folder)
    line = first.stdout.readline()
    assert line.split() == [url, "7"], first.communicate("\n")[1]
    pid_file = folder / "data" / "postmaster.pid"
    assert pid_file.exists()
    second = script(url, "SELECT current_setting('server_version_num')::int / 10000", cwd=folder)
    assert finish(second) == [url, str(version)]
    assert pid_file.exists()  # the first one still works with it
    finish(first)
    assert not pid_file.exists()
    assert finish(script(url, "SELECT a FROM t", cwd=folder)) == [url, "7"]
    assert not pid_file.exists()


def test_wrong_version(folder):
    """A folder stays with the version that made it."""
    (folder / "data").mkdir()
    (folder / "data" / "PG_VERSION").write_text("16\n")
    with pytest.raises(BindingError, match="was made by PostgreSQL 16"):
        start_server(folder / "data", version=18)
    with pytest.raises(BindingError, match="has no PostgreSQL 12"):
        start_server(folder / "new", version=12)


def test_server_that_does_not_start(folder):
    """A broken folder is told with the name of the log."""
    (folder / "data").mkdir()
    (folder / "data" / "PG_VERSION").write_text("18\n")
    with pytest.raises(OperationalError, match=r"did not start.*log"):
        start_server(folder / "data")


def test_folders_that_cannot_be_used(folder):
    """A missing parent, a folder with other things in it, a file, and no folder at all."""
    (folder / "full").mkdir()
    (folder / "full" / "letter.txt").write_text("Dear all")
    (folder / "file").write_text("")
    for path, message in (("no/data", "does not exist"), ("full", "something else"), ("file", "something else")):
        with pytest.raises(BindingError, match=message):
            make_backend(f"embedded-postgresql:///{folder}/{path}")
    for url in ("embedded-postgresql://", "embedded-postgresql:///"):
        with pytest.raises(BindingError, match="needs a folder"):
            make_backend(url)
    assert (folder / "full" / "letter.txt").read_text() == "Dear all"


def test_wheel_is_missing(folder, monkeypatch):
    """The message says what to install."""

    def import_module(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", import_module)
    with pytest.raises(BindingError, match=r"pip install dbsession\[embedded\]"):
        make_backend(f"embedded-postgresql:///{folder}/data")
