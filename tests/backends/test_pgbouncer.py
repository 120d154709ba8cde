"""Behind a transaction pooler, where each transaction may run on another server connection: a real pgbouncer.

Without the program pgbouncer these tests are skipped; `apt install pgbouncer`, or the like, brings it.
"""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from dbsession import (
    ConnectionLost,
    Database,
    DataError,
    OptimisticCheckError,
    Optional,
    Required,
    SessionDoomed,
    Set,
    TransactionIntegrityError,
    commit,
    db_session,
    flush,
    rollback,
    savepoint,
)
from tests.observing import elsewhere, rows, sent
from tests.servers import UNPRIVILEGED_USER

SERVER_CONNECTIONS = 2
THREADS = 6


def find_pgbouncer():
    """Return where the program is; Debian puts it where only root looks."""
    return shutil.which("pgbouncer", path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"]))


pytestmark = pytest.mark.skipif(
    find_pgbouncer() is None, reason="the program pgbouncer is not installed: apt install pgbouncer"
)

CONFIGURATION = """
[databases]
* = host={server.socket_dir} port={server.port} user={server.user}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {size}
max_client_conn = 100
"""


class Pooler:
    """A pgbouncer of our own, in front of *server*; stopped by its process id."""

    def __init__(self, server):
        self._server = server
        self._folder = Path(tempfile.mkdtemp(prefix="dbs-pooler-"))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        file = self._folder / "pgbouncer.ini"
        file.write_text(CONFIGURATION.format(server=server, port=self.port, size=SERVER_CONNECTIONS), encoding="utf-8")
        as_user = {}
        if os.geteuid() == 0:  # which pgbouncer refuses
            entry = pwd.getpwnam(UNPRIVILEGED_USER)
            as_user = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
            for path in (self._folder, file):
                os.chown(path, entry.pw_uid, entry.pw_gid)
        self._log = (self._folder / "log").open("wb")
        self._process = subprocess.Popen(
            [find_pgbouncer(), str(file)],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
            **as_user,
        )

    def url(self, options=""):
        """Return the URL of the test's database through the pooler."""
        where = f"postgresql://{self._server.user}@127.0.0.1:{self.port}/{self._server.database}"
        return f"{where}?sslmode=disable&gssencmode=disable{options}"

    def wait(self):
        """Wait until it lets clients in."""
        deadline = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self.url()).close()
            except psycopg.OperationalError:
                assert self._process.poll() is None and time.monotonic() < deadline, self.log()
            else:
                return

    def log(self):
        """Return what it has written."""
        return (self._folder / "log").read_text(encoding="utf-8", errors="replace")

    def close(self):
        """End it."""
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        self._process.kill()
        self._process.wait()
        self._log.close()
        shutil.rmtree(self._folder)


@pytest.fixture
def direct(postgres_url):
    """A connection to the server itself, older than those of the pooler."""
    with psycopg.connect(postgres_url, autocommit=True) as link:
        yield link


@pytest.fixture
def pooler(direct, postgres_tcp):
    pooler = Pooler(postgres_tcp)
    try:
        pooler.wait()
        yield pooler
    finally:
        pooler.close()


@pytest.fixture
def db(pooler):
    db = Database(pooler.url("&prepare=false"), max_size=THREADS)
    yield db
    db.close()


@pytest.fixture
def entities(db):
    class Account(db.Entity):
        name = Required(str, unique=True)
        balance = Required(int, default=0)
        entries = Set("Entry")

    class Entry(db.Entity):
        account = Required(Account)
        amount = Required(int)
        note = Optional(str)

    db.generate_mapping(create_tables=True)
    with db_session:
        for number in range(4):
            Account(name=f"account {number}", balance=100)
    return db.entities


def in_threads(work):
    """Run *work*, with the number of the thread, in threads that begin together."""
    begin = threading.Barrier(THREADS)

    def run(number):
        begin.wait(30)
        return work(number)

    with ThreadPoolExecutor(THREADS) as pool:
        return [future.result(110) for future in [pool.submit(run, number) for number in range(THREADS)]]


def servers(direct):
    """Return the process ids of the pooler's connections to the server."""
    found = direct.execute(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND backend_start > "
        "(SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid())"
    )
    return {pid for (pid,) in found}


# --- scopes of every kind, from more clients than there are server connections ------------------------------


def test_transfers_from_many_threads(db, entities, direct):
    """Scopes that read, write, conflict and run again in 6 threads share 2 server connections, and lose nothing."""
    Account, Entry = entities["Account"], entities["Entry"]

    @db_session(retry=1000)
    def transfer(source, target, amount):
        source, target = Account[source], Account[target]
        source.balance -= amount
        target.balance += amount
        Entry(account=source, amount=-amount)
        Entry(account=target, amount=amount)

    @db_session
    def look():
        return sum(account.balance for account in Account.select()), Entry.select().count()  # a moment each

    def work(number):
        for step in range(10):
            transfer(1 + (number + step) % 4, 1 + (number + step + 1) % 4, 1)
            assert look()[0] == 400

    in_threads(work)
    with db_session:
        assert look() == (400, THREADS * 10 * 2)
        for account in Account.select():
            assert account.balance == 100 + sum(entry.amount for entry in account.entries)
    assert len(servers(direct)) <= SERVER_CONNECTIONS


def test_serializable_scopes_from_many_threads(db, entities, direct):
    """Serializable scopes see one moment each: the sum is always the same, and every transfer is done once."""
    Account = entities["Account"]

    @db_session(serializable=True, retry=1000)
    def transfer(source, target):
        assert db.get("SHOW transaction_isolation") == "serializable"
        assert sum(account.balance for account in Account.select()) == 400
        Account[source].balance -= 1
        Account[target].balance += 1

    in_threads(lambda number: [transfer(1 + number % 3, 4) for _ in range(5)])
    assert rows(db, "SELECT balance FROM account ORDER BY id") == [90, 90, 90, 130]
    assert len(servers(direct)) <= SERVER_CONNECTIONS


def test_locks_from_many_threads(db, entities):
    """93. Rows that are locked one after the other count up to the last one, with no conflict on the way."""
    Account = entities["Account"]
    runs = []

    @db_session
    def add():
        runs.append(1)
        Account.get_for_update(id=1).balance += 1

    in_threads(lambda _: [add() for _ in range(10)])
    assert rows(db, "SELECT balance FROM account WHERE id = 1") == [100 + THREADS * 10]
    assert len(runs) == THREADS * 10


def test_scopes_that_have_read_hold_no_server_connection(db, entities, direct):
    """11. 6 scopes are open at once, have read, and go on to write: reads are in autocommit, so 2 servers are enough."""
    Account = entities["Account"]
    all_have_read = threading.Barrier(THREADS)

    @db_session
    def work(number):
        Account[1]
        all_have_read.wait(30)
        Account(name=f"thread {number}")

    with sent(db) as spent:
        in_threads(work)
    assert spent.connections >= THREADS - 1
    assert (spent.statements, spent.round_trips, spent.transactions) == (2 * THREADS, 2 * THREADS, 0)
    assert len(rows(db, "SELECT name FROM account")) == 4 + THREADS
    assert len(servers(direct)) <= SERVER_CONNECTIONS


def test_streams_from_many_threads(db, entities, direct):
    """126. A cursor lives in its transaction, so it has its server connection until the last batch, and no longer."""
    Account = entities["Account"]
    with db_session:
        for number in range(4, 50):
            Account(name=f"account {number}", balance=100)

    @db_session
    def read(number):
        for account in Account.select().order_by(Account.id).stream(7):
            if account.id % THREADS == number:
                account.balance += 1
        return sum(account.balance for account in Account.select().stream(7)) >= 5000

    assert in_threads(read) == [True] * THREADS
    assert rows(db, "SELECT DISTINCT balance FROM account") == [101]
    assert len(servers(direct)) <= SERVER_CONNECTIONS


# --- what a client must not leave to the next one -------------------------------------------------------------


def test_nothing_is_prepared_behind_the_pooler(db, entities, direct):
    """With prepare=false no statement stays on a server connection, however often it runs: other clients own it too."""
    Account, Entry = entities["Account"], entities["Entry"]

    def work(number):
        for step in range(12):
            with db_session:
                account = Account[1 + number % 4]
                Entry(account=account, amount=step).flush()
                if step % 3 == 0:
                    rollback()
                    assert account.name

    in_threads(work)
    prepared = in_threads(lambda _: rows(db, "SELECT name FROM pg_prepared_statements"))
    assert prepared == [[]] * THREADS


def test_no_setting_reaches_another_client(db, entities, direct):
    """110. Whatever a scope asked for, the next transaction on the same server connection has the defaults."""
    Account = entities["Account"]
    settings = "SELECT name, setting FROM pg_settings WHERE name <> 'transaction_isolation' ORDER BY name"
    before = rows(db, settings)
    for options in ({"serializable": True}, {"immediate": True}, {"optimistic": False}, {}):
        with db_session(**options):
            Account[1].balance += 1
            flush()
            db.execute("SET LOCAL statement_timeout = '7s'")
            assert db.get("SHOW statement_timeout") == "7s"
        with pytest.raises(ZeroDivisionError), db_session(**options):
            db.execute("SET LOCAL lock_timeout = '7s'")
            1 / 0
    with db_session(statement_timeout=7, lock_timeout=6, isolation="repeatable read", read_only=True):
        assert [db.get(f"SHOW {name}") for name in ("statement_timeout", "lock_timeout")] == ["7s", "6s"]
    after = in_threads(lambda _: rows(db, settings))
    assert after == [before] * THREADS
    assert in_threads(lambda _: rows(db, "SHOW transaction_isolation")) == [["read committed"]] * THREADS
    states = (
        "SELECT DISTINCT state FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    assert direct.execute(states).fetchall() == [("idle",)]


# --- promises that need more than one statement ---------------------------------------------------------------


def test_what_it_costs_is_the_same(db, entities):
    """91. A pooler changes neither what is sent nor how often: read, change, insert many, commit."""
    Account, Entry = entities["Account"], entities["Entry"]
    with sent(db) as spent, db_session:
        account = Account[1]
        account.balance += 1
    assert (spent.statements, spent.round_trips, spent.transactions) == (2, 2, 0)
    with sent(db) as spent, db_session:
        account = Account[1]
        for amount in range(100):
            Entry(account=account, amount=amount)
        account.balance += 1
    assert (spent.round_trips, spent.transactions) == (2, 1)
    with sent(db) as spent, db_session:
        for entry in Entry.select():
            entry.amount += 1
    assert (spent.round_trips, spent.transactions) == (2, 1)
    assert sum(rows(db, "SELECT amount FROM entry")) == sum(range(101))


def test_a_conflict_behind_the_pooler(db, entities):
    """89, 91. The server refuses the one row of many that has changed, and COMMIT behind it does nothing."""
    Account = entities["Account"]
    with pytest.raises(OptimisticCheckError, match="balance: 100 was seen, 7 is there now"), db_session:
        for account in Account.select():
            account.balance += 1
        elsewhere(db_session(lambda: Account[3].set(balance=7)))
    assert sorted(rows(db, "SELECT balance FROM account")) == [7, 100, 100, 100]
    with db_session:
        Account[3].balance += 1
    assert rows(db, "SELECT balance FROM account WHERE id = 3") == [8]


def test_errors_behind_the_pooler(db, entities):
    """61, 62, 84. Refused at the flush, at COMMIT, or swallowed: an error each time, nothing saved, the next one works."""
    Account = entities["Account"]
    with db_session:
        db.execute("ALTER TABLE entry ADD CONSTRAINT once UNIQUE (amount) DEFERRABLE INITIALLY DEFERRED")
    with pytest.raises(TransactionIntegrityError), db_session:
        Account(name="account 1")
    with pytest.raises(SessionDoomed), db_session:
        Account(name="lost").flush()
        with pytest.raises(DataError):
            db.execute("SELECT 1 / 0")
    for number in range(4):
        with pytest.raises(TransactionIntegrityError) as caught, db_session:
            account = Account[1]
            for _ in range(2):
                entities["Entry"](account=account, amount=number)
        assert caught.value.constraint == "once"
    assert rows(db, "SELECT count(*) FROM account") == [4]
    with db_session:
        Account(name="works")
        commit()
        entities["Entry"](account=Account.get(name="works"), amount=1)
    assert rows(db, "SELECT amount FROM entry") == [1]


def test_savepoints_from_many_threads(db, entities, direct):
    """80, 75. Inner scopes that fail undo their own part only, on whichever server connection they are."""
    Account, Entry = entities["Account"], entities["Entry"]

    def work(number):
        for step in range(5):
            with db_session:
                account = Account[1 + number % 4]
                with savepoint():
                    Entry(account=account, amount=1)
                with pytest.raises(TransactionIntegrityError), savepoint():
                    Entry(account=account, amount=100)
                    Account(name="account 0")
                with pytest.raises(ZeroDivisionError), db_session:
                    Entry(account=account, amount=100).flush()
                    1 / 0
                if step == 4:
                    Account(name=f"thread {number}")

    in_threads(work)
    assert rows(db, "SELECT DISTINCT amount FROM entry") == [1]
    assert rows(db, "SELECT count(*) FROM entry") == [THREADS * 5]
    assert rows(db, "SELECT count(*) FROM account") == [4 + THREADS]
    assert len(servers(direct)) <= SERVER_CONNECTIONS


def test_server_connections_that_end(db, entities, direct):
    """107, 108. Ended between scopes: unseen. Ended within a transaction: ConnectionLost, and nothing is saved."""
    Account = entities["Account"]

    def end_all():
        for pid in servers(direct):
            direct.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,))

    end_all()
    with db_session:
        Account[1].balance += 1
    with pytest.raises(SessionDoomed, match="ConnectionLost"), db_session:
        Account(name="lost").flush()
        end_all()
        with pytest.raises(ConnectionLost):
            db.execute("SELECT 1")
    with db_session:
        Account(name="works")
    assert rows(db, "SELECT name FROM account WHERE id > 4") == ["works"]
