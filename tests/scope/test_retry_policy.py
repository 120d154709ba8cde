"""The policy of retry: the table of errors against the tables of the drivers, the waits, the deadline."""

import inspect
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

import dbsession
from dbsession import (
    CommitException,
    DatabaseError,
    DataError,
    DeadlockDetected,
    OperationalError,
    OptimisticCheckError,
    ProgrammingError,
    RetryPolicy,
    SerializationConflict,
    SessionDoomed,
    TransactionError,
    TransactionIntegrityError,
    db_session,
)
from dbsession.backends import postgres_errors, sqlite_errors
from dbsession.scope import retry as retry_module
from dbsession.scope import stack
from dbsession.scope.retry import POLICY, Again, may_retry
from dbsession.session.options import Options, make_options

DOCS = Path(__file__).resolve().parents[2] / "docs" / "retry.md"


class Clock:
    """A clock that stands still unless somebody sleeps; *late*: how much longer than asked."""

    def __init__(self, late=0.0):
        self.now = 1000.0
        self.late = late
        self.slept = []

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        assert stack.current_frame() is None, "slept within a scope"
        self.slept.append(seconds)
        self.now += seconds + self.late


@pytest.fixture
def clock(monkeypatch):
    """The clock of retry; waits are as long as they can be."""
    clock = Clock()
    monkeypatch.setattr(retry_module, "time", clock)
    monkeypatch.setattr(retry_module, "random", SimpleNamespace(uniform=lambda low, high: low + high))
    return clock


def raised_from(error, cause):
    """Return *error* as it is after ``raise error from cause``."""
    error.__cause__ = cause
    return error


# --- which errors -----------------------------------------------------------------------------------------------


def test_every_transaction_error_has_a_verdict():
    """98. The table has every kind of TransactionError, and none twice; the more special stands before the more general."""
    known = [value for value in vars(dbsession).values() if isinstance(value, type)]
    wanted = {cls for cls in known if issubclass(cls, TransactionError)} - {TransactionError, dbsession.IsolationError}
    listed = [case.error for case in POLICY]
    assert set(listed) <= wanted and len(set(listed)) == len(listed)
    assert [cls for cls in wanted if not issubclass(cls, tuple(listed))] == []
    for place, case in enumerate(POLICY):
        assert not any(issubclass(later.error, case.error) for later in POLICY[place + 1 :]), case.error


@pytest.mark.parametrize("case", POLICY, ids=lambda case: case.error.__name__)
def test_the_verdict_is_what_happens(case):
    """98. What the table says of an error is what a retry does with it, whatever it was asked for in the case of never."""
    assert may_retry(case.error(), Options()) is (case.again is Again.YES)
    anything = make_options(retry=1, retry_exceptions=lambda _: True)
    assert may_retry(case.error(), anything) is (case.again is Again.YES)
    caused = raised_from(case.error(), DeadlockDetected())
    assert may_retry(caused, Options()) is (case.again in {Again.YES, Again.CAUSE})


@pytest.mark.parametrize(
    "column, codes",
    [("sqlstates", postgres_errors.CODES), ("sqlite", sqlite_errors.CODES)],
    ids=["PostgreSQL", "SQLite"],
)
def test_the_codes_are_those_of_the_driver(column, codes):
    """98. The codes that the table names are those which the driver makes such an error of, all of them and no others."""
    retried = {code: cls for code, cls in codes.items() if issubclass(cls, TransactionError)}
    listed = {code: case.error for case in POLICY for code in getattr(case, column)}
    assert listed == retried


@pytest.mark.parametrize("codes", [postgres_errors.CODES, sqlite_errors.CODES], ids=["PostgreSQL", "SQLite"])
def test_no_other_code_is_retried(codes):
    """98. An error of any other code is not retried, unless it was asked for: the type decides."""
    for code, cls in codes.items():
        if not issubclass(cls, TransactionError):
            assert not may_retry(cls(), Options()), code
            assert may_retry(cls(), make_options(retry=1, retry_exceptions=DatabaseError)), code


def test_the_table_in_the_source_and_in_the_docs_is_the_table():
    """98. The table drawn in the source, and the one in the docs, have the codes and the errors of the policy."""
    source = inspect.getsource(retry_module)
    drawn = source[source.index("error                      SQLSTATE") : source.index("_NEVER = ")]
    page = DOCS.read_text(encoding="utf-8")
    for case in POLICY:
        assert f"`{case.error.__name__}`" in page
        row = next(line for line in page.splitlines() if f"`{case.error.__name__}`" in line and line.startswith("|"))
        codes = [*case.sqlstates, *map(str, case.sqlite)]
        assert sorted(re.findall(r"`(\w+)`", row.split("|")[1] + row.split("|")[2])) == sorted(codes)
        if codes:
            assert case.error.__name__ in drawn
            assert all(re.search(rf"\b{code}\b", drawn) for code in codes)


def test_a_wrapped_error_of_a_commit_counts():
    """98. With several databases the error of a commit comes wrapped; a list that names the error itself finds it."""
    only = make_options(retry=1, retry_exceptions=SerializationConflict)
    assert may_retry(raised_from(CommitException(), SerializationConflict()), only)
    assert not may_retry(raised_from(CommitException(), TransactionIntegrityError()), only)
    assert not may_retry(raised_from(dbsession.PartialCommitException(), SerializationConflict()), only)


def test_a_doomed_session_counts_for_its_cause():
    """98. SessionDoomed is judged by the error that doomed it, through several of them."""
    twice = raised_from(SessionDoomed(), raised_from(SessionDoomed(), SerializationConflict()))
    assert may_retry(twice, Options())
    assert not may_retry(raised_from(SessionDoomed(), DataError()), Options())
    assert not may_retry(
        raised_from(SessionDoomed(), KeyboardInterrupt()), make_options(retry_exceptions=BaseException)
    )


@pytest.mark.parametrize(
    "wanted, yes, no",
    [
        (ValueError, [ValueError(), UnicodeDecodeError("u", b"", 0, 1, "")], [TransactionError(), KeyError()]),
        ((ValueError, KeyError), [ValueError(), KeyError()], [IndexError()]),
        (OperationalError, [OperationalError(), DeadlockDetected()], [OptimisticCheckError(), ProgrammingError()]),
        (lambda error: "again" in str(error), [ValueError("again")], [ValueError("never")]),
        ((), [], [TransactionError(), ValueError()]),
    ],
)
def test_the_type_decides(wanted, yes, no):
    """98. A class means its objects and those below it, and is never called; a function is."""
    options = make_options(retry=1, retry_exceptions=wanted)
    assert all(may_retry(error, options) for error in yes)
    assert not any(may_retry(error, options) for error in no)
    allowing = make_options(allowed_exceptions=wanted)
    assert all(allowing.is_allowed(error) for error in yes)
    assert not any(allowing.is_allowed(error) for error in no)


# --- how long to wait ---------------------------------------------------------------------------------------------


def attempts_of(policy, failures=9999):
    """Return the numbers of the runs that *policy* lets a function have that fails *failures* times, and its last error."""
    runs = []

    @db_session(retry=policy)
    def work():
        runs.append(len(runs) + 1)
        if len(runs) <= failures:
            raise TransactionError(f"{len(runs)}")

    try:
        work()
    except TransactionError as error:
        return runs, error
    return runs, None


def loops_of(policy, failures=9999):
    """Return the same for a block in a loop."""
    runs = []
    try:
        for attempt in db_session.attempts(retry=policy):
            with attempt:
                runs.append(attempt.number)
                if attempt.number <= failures:
                    raise TransactionError(f"{attempt.number}")
    except TransactionError as error:
        return runs, error
    return runs, None


FORMS = pytest.mark.parametrize("run", [attempts_of, loops_of], ids=["function", "loop"])


@FORMS
def test_the_wait_doubles_up_to_the_cap(clock, run):
    """97. The limit of the wait doubles with each run, from base to cap."""
    runs, error = run(RetryPolicy(5, base=0.5, cap=5))
    assert runs == [1, 2, 3, 4, 5, 6]
    assert clock.slept == [1, 2, 4, 5, 5]
    assert len(error.attempts) == 5


@FORMS
def test_very_many_retries_are_no_overflow(clock, run):
    """97. After a thousand runs the limit is the cap still."""
    runs, _ = run(RetryPolicy(1100, base=0.001, cap=0.002))
    assert len(runs) == 1101
    assert clock.slept == [0.002] * 1100


@FORMS
def test_no_run_begins_after_the_deadline(clock, run):
    """97. Where the wait would end after the deadline there is none: the error is raised at once, and says so."""
    runs, error = run(RetryPolicy(9, base=0.5, cap=9, deadline=7))
    assert runs == [1, 2, 3, 4]  # after 0, 1, 3 and 7 seconds; the next would be after 15
    assert clock.slept == [1, 2, 4]
    assert str(error) == "4" and [str(each) for each in error.attempts] == ["1", "2", "3"]
    assert error.__notes__ == ["not retried: no run may begin 7 s after the first one", "after 4 attempts"]


@FORMS
def test_a_wait_that_took_too_long_is_the_last(clock, run):
    """97. Where the wait took longer than it should, and the deadline is over then, no run begins either."""
    clock.late = 10
    runs, error = run(RetryPolicy(9, base=0.5, cap=9, deadline=5))
    assert runs == [1]
    assert clock.slept == [1]
    assert error.__notes__ == ["not retried: no run may begin 5 s after the first one"]
    assert not hasattr(error, "attempts")


@FORMS
def test_the_deadline_counts_from_the_first_run(clock, run):
    """97. What happened between decorating and calling, or between making the attempts and the loop, does not count."""
    clock.now += 1000
    assert run(RetryPolicy(3, base=0.5, cap=9, deadline=4), failures=2) == ([1, 2, 3], None)


@FORMS
def test_an_interrupted_wait_stops_at_once(monkeypatch, run):
    """105. Ctrl-C during the wait ends it, and everything: no further run, nothing open."""
    calls = []

    def interrupted(_):
        calls.append(stack.current_frame())
        raise KeyboardInterrupt

    monkeypatch.setattr(retry_module.time, "sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(3)
    assert calls == [None]
    assert stack.current_frame() is None


def test_the_wait_is_drawn_anew_each_time(monkeypatch):
    """97. Full jitter: from nothing to the limit, drawn for each wait; two that met do not wait alike."""
    slept = []
    monkeypatch.setattr(retry_module.time, "sleep", slept.append)
    for _ in range(20):
        attempts_of(RetryPolicy(3, base=1, cap=2))
    assert len(set(slept)) == 60
    assert 0 <= min(slept) < 0.5 and 1.5 < max(slept) <= 2
