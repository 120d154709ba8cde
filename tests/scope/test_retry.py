"""`@db_session(retry=n)`: which errors run the function again, how often, and with what."""

import asyncio
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest

from dbsession import (
    CommitOutcomeUnknown,
    DatabaseSessionIsOver,
    IntegrityError,
    OptimisticCheckError,
    PartialCommitException,
    ProgrammingError,
    Required,
    SessionDoomed,
    TransactionError,
    TransactionIntegrityError,
    UnresolvableCyclicDependency,
    commit,
    db_session,
    flush,
)
from dbsession.scope import retry as retry_module
from dbsession.scope import stack
from tests.observing import elsewhere, rows, sent


class Odd(Exception):
    pass


def anything(error):
    """Ask for every error to be retried."""
    return True


@pytest.fixture
def Counter(db):
    class Counter(db.Entity):
        value = Required(int, default=0)
        name = Required(str, unique=True)

    db.generate_mapping(create_tables=True)
    with db_session:
        Counter(name="first")
    return Counter


@pytest.fixture
def waits(monkeypatch):
    """What would be slept between the attempts."""
    slept = []
    monkeypatch.setattr(retry_module.time, "sleep", slept.append)
    return slept


def failing(times, error, **options):
    """Return a decorated function that raises *error* the first *times*, and the list of its calls."""
    calls = []

    @db_session(**options)
    def work():
        calls.append(stack.current_session())
        if len(calls) <= times:
            raise error() if isinstance(error, type) else error
        return len(calls)

    return work, calls


# --- which errors -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [TransactionError, OptimisticCheckError, TransactionIntegrityError])
def test_transaction_errors_are_retried(waits, error):
    """98. By default every TransactionError runs the function again, integrity errors too."""
    work, calls = failing(2, error, retry=2)
    assert work() == 3
    assert len(set(map(id, calls))) == 3


@pytest.mark.parametrize("error", [ValueError, Odd, IntegrityError, ProgrammingError, AssertionError])
def test_other_errors_are_not_retried(waits, error):
    """98. By default no other error does, database errors outside of TransactionError included."""
    work, calls = failing(1, error, retry=5)
    with pytest.raises(error) as caught:
        work()
    assert len(calls) == 1
    assert waits == []
    assert not hasattr(caught.value, "attempts")


def test_without_retry_nothing_is_retried(waits):
    """97. retry=0, the default, runs the function once."""
    work, calls = failing(1, TransactionError)
    with pytest.raises(TransactionError):
        work()
    assert len(calls) == 1


@pytest.mark.parametrize(
    "wanted", [Odd, (Odd,), [ValueError, Odd], Exception, lambda error: isinstance(error, Odd) and error.args == ()]
)
def test_listed_errors_are_retried(waits, wanted):
    """98. retry_exceptions says which errors are, as a class, several, or a function."""
    work, _ = failing(1, Odd, retry=1, retry_exceptions=wanted)
    assert work() == 2


def test_a_list_replaces_the_default(waits):
    """98. With a list of one's own, a TransactionError that it does not name is not retried."""
    work, calls = failing(1, TransactionError, retry=3, retry_exceptions=OptimisticCheckError)
    with pytest.raises(TransactionError):
        work()
    assert len(calls) == 1


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
@pytest.mark.parametrize("wanted", [BaseException, anything, "itself"])
def test_base_exceptions_are_never_retried(waits, kind, wanted):
    """98. KeyboardInterrupt, SystemExit, GeneratorExit and cancellation are never retried, whatever was asked for."""
    work, calls = failing(9, kind, retry=5, retry_exceptions=kind if wanted == "itself" else wanted)
    with pytest.raises(kind):
        work()
    assert len(calls) == 1


@pytest.mark.parametrize(
    "error",
    [CommitOutcomeUnknown, PartialCommitException, DatabaseSessionIsOver, UnresolvableCyclicDependency, SessionDoomed],
)
@pytest.mark.parametrize("wanted", [TransactionError, Exception, anything])
def test_what_a_retry_could_do_twice_is_never_retried(waits, error, wanted):
    """98, 63. An unknown or partial commit is never run again, nor what fails the same way each time."""
    work, calls = failing(9, error, retry=5, retry_exceptions=wanted)
    with pytest.raises(error):
        work()
    assert len(calls) == 1


def test_an_allowed_exception_is_not_retried(db, Counter, waits):
    """4, 98. What an allowed exception has committed is not done again, though its base class is to be retried."""

    class Special(Odd):
        pass

    calls = []

    @db_session(retry=3, retry_exceptions=Odd, allowed_exceptions=Special)
    def work():
        calls.append(1)
        Counter(name=f"call {len(calls)}")
        raise Special

    with pytest.raises(Special):
        work()
    assert rows(db, "SELECT name FROM counter ORDER BY name") == ["call 1", "first"]


def test_a_failed_commit_of_an_allowed_exception_is_retried(db, Counter, waits):
    """4, 98. If the commit with an allowed exception fails, nothing was committed, and the work runs again."""
    calls = []

    @db_session(retry=3, allowed_exceptions=Exception)
    def work():
        calls.append(1)
        Counter(name="first" if len(calls) == 1 else "second")
        raise Odd

    with pytest.raises(Odd):
        work()
    assert len(calls) == 2
    assert rows(db, "SELECT name FROM counter ORDER BY name") == ["first", "second"]


# --- how often, and what is told -----------------------------------------------------------------------------


def test_the_last_error_carries_the_attempts(waits):
    """99. When the retries are used up the last error is raised, with the ones before it and their number."""
    errors = [TransactionError("one"), TransactionError("two"), TransactionError("three")]

    @db_session(retry=2)
    def work():
        raise next(left)

    left = iter(errors)
    with pytest.raises(TransactionError, match="three") as caught:
        work()
    assert caught.value is errors[2]
    assert caught.value.attempts == (errors[0], errors[1])
    assert caught.value.__notes__ == ["after 3 attempts"]
    assert next(left, None) is None


def test_another_error_after_retries_carries_the_attempts_too(waits):
    """99. The same for an error that ends the retries because it is not to be retried."""
    errors = [TransactionError("one"), ValueError("two")]

    @db_session(retry=5)
    def work():
        raise next(left)

    left = iter(errors)
    with pytest.raises(ValueError, match="two") as caught:
        work()
    assert caught.value.attempts == (errors[0],)
    assert caught.value.__notes__ == ["after 2 attempts"]


def test_waits_are_random_and_longer_each_time(waits, monkeypatch):
    """97. Between attempts nothing is open; the wait is drawn from nothing to a limit that doubles, up to a second."""
    limits = []
    monkeypatch.setattr(retry_module.random, "uniform", lambda low, high: limits.append((low, high)) or high)
    frames = []
    monkeypatch.setattr(retry_module.time, "sleep", lambda _: frames.append(stack.current_frame()))
    work, _ = failing(9, TransactionError, retry=9)
    assert work() == 10
    assert limits == [(0, limit) for limit in (0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.0, 1.0, 1.0)]
    assert frames == [None] * 9


def test_each_attempt_starts_clean(db, Counter, waits):
    """97, 102. Each attempt has a new session, objects of its own and the original arguments; the others' are over."""
    seen = []

    @db_session(retry=2)
    def work(given, *, keyword):
        assert (given, keyword) == (argument, 5)
        counter = Counter[1]
        assert counter.value == 0
        counter.value = 7
        new = Counter(name=f"attempt {len(seen)}")
        flush()
        assert not any(old is counter for old, _ in seen)
        for old, made in seen:
            with pytest.raises(DatabaseSessionIsOver, match="rolled back because of TransactionError"):
                old.value = 1
            with pytest.raises(DatabaseSessionIsOver):
                made.name = "x"
        seen.append((counter, new))
        if len(seen) < 3:
            raise TransactionError
        return new.name

    argument = object()
    assert work(argument, keyword=5) == "attempt 2"
    assert rows(db, "SELECT name FROM counter ORDER BY name") == ["attempt 2", "first"]


def test_an_error_of_commit_is_retried(db, Counter, waits):
    """97. An error that only the commit shows, after the function has returned, runs the function again."""
    calls = []

    @db_session(retry=1)
    def work():
        calls.append(1)
        Counter(name="first" if len(calls) == 1 else "second")
        return len(calls)

    assert work() == 2
    assert rows(db, "SELECT name FROM counter ORDER BY name") == ["first", "second"]


def test_a_swallowed_conflict_is_retried_for_its_cause(db, Counter, waits):
    """98. SessionDoomed is retried for the error that doomed it, and not without one that is to be retried."""
    calls = []

    @db_session(retry=1)
    def work():
        calls.append(1)
        if len(calls) == 1:
            Counter(name="first")
            with pytest.raises(TransactionIntegrityError):
                flush()
        else:
            Counter(name="second")

    work()
    assert rows(db, "SELECT name FROM counter ORDER BY name") == ["first", "second"]


def test_a_failed_inner_scope_is_no_reason_to_retry(db, Counter, waits):
    """98. An inner scope that failed, and whose error the outer one handles, is undone: the outer one has not failed."""
    calls = []

    @db_session(retry=1, retry_exceptions=Odd)
    def work():
        calls.append(1)
        with pytest.raises(Odd), db_session:
            Counter(name="inner")
            raise Odd

    work()
    assert len(calls) == 1
    assert "inner" not in rows(db, "SELECT name FROM counter")


# --- nested -------------------------------------------------------------------------------------------------


def test_an_inner_retry_is_ignored_with_a_warning(waits):
    """101. Only the outermost scope retries; the inner retry says that it is ignored, where it was called."""
    inner, inner_calls = failing(1, TransactionError, retry=5)
    outer_calls = []

    @db_session(retry=1)
    def outer():
        outer_calls.append(1)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                return inner()
            finally:
                (warning,) = caught
                assert warning.category is RuntimeWarning and warning.filename == __file__
                assert "retry=5 of failing.<locals>.work() is ignored" in str(warning.message)

    assert outer() == 2
    assert (len(outer_calls), len(inner_calls)) == (2, 2)


def test_an_inner_retry_within_a_block_is_ignored_too(waits):
    """101. The same within a `with` block, which cannot run again at all."""
    inner, calls = failing(1, TransactionError, retry=5)
    with pytest.raises(TransactionError), db_session, pytest.warns(RuntimeWarning, match="is ignored"):
        inner()
    assert len(calls) == 1


def test_an_inner_block_with_retry_is_ignored_too(waits):
    """101. The same for a `with` block that asks for retry: the warning names the place, and one warning is enough."""

    def work():
        with db_session(retry=5):
            raise TransactionError

    with pytest.raises(TransactionError) as caught, db_session, pytest.warns(RuntimeWarning) as warned:
        work()
    (warning,) = warned
    assert warning.filename == __file__
    where = "test_an_inner_block_with_retry_is_ignored_too.<locals>.work()"
    assert f"retry=5 of `with db_session` in {where} is ignored" in str(warning.message)
    assert not hasattr(caught.value, "__notes__")  # a loop would not have helped here


def test_an_outermost_retry_gives_no_warning(waits):
    """101. Blocks, functions and loops that are outermost retry, or say why not, without any warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert failing(1, TransactionError, retry=1)[0]() == 2
        with db_session(retry=3):
            pass
        with db_session, db_session(retry=0):
            pass


# --- real conflicts -----------------------------------------------------------------------------------------


def test_a_real_conflict_is_retried(db, Counter):
    """97, 96. Two threads read the same row, both change it: the second one runs again, and nothing is lost."""
    both_have_read = threading.Barrier(2)
    first_is_done = threading.Event()
    runs = {"fast": 0, "slow": 0}

    @db_session(retry=3)
    def add(name):
        runs[name] += 1
        counter = Counter[1]
        value = counter.value
        if runs[name] == 1:
            both_have_read.wait(30)
            if name == "slow":
                assert first_is_done.wait(30)
        counter.value = value + 1

    def fast():
        add("fast")
        first_is_done.set()

    with ThreadPoolExecutor(2) as pool:
        for future in (pool.submit(fast), pool.submit(add, "slow")):
            future.result(60)
    assert runs == {"fast": 1, "slow": 2}
    assert rows(db, "SELECT value FROM counter") == [2]


def test_a_conflict_without_retry_is_raised(db, Counter):
    """97. The same schedule without retry: the second one gets the conflict, and the first one's work stays."""
    with pytest.raises(OptimisticCheckError), db_session:
        counter = Counter[1]
        counter.value += 1
        elsewhere(db_session(lambda: setattr(Counter[1], "value", 50)))
    assert rows(db, "SELECT value FROM counter") == [50]


def test_retry_costs_nothing_while_all_is_well(db, Counter):
    """97. Without a conflict a function with retry runs once, and waits for nothing."""

    @db_session(retry=3)
    def work():
        Counter[1].value = 5

    with sent(db) as spent:
        work()
    assert spent.round_trips == 2  # the read, and BEGIN, UPDATE, COMMIT
    assert rows(db, "SELECT value FROM counter") == [5]


def test_work_that_was_committed_in_the_middle_is_not_run_again(db, Counter, waits):
    """97. What commit() has saved would be saved twice by another run: the error is raised, and says so."""
    calls = []

    @db_session(retry=1)
    def work():
        calls.append(1)
        Counter(name=f"call {len(calls)}")
        commit()
        raise TransactionError

    with pytest.raises(TransactionError) as caught:
        work()
    assert "commit() had saved a part of the work" in caught.value.__notes__[0]
    assert rows(db, "SELECT name FROM counter ORDER BY name") == ["call 1", "first"]


def test_a_commit_that_saved_nothing_does_not_stand_in_the_way_of_a_retry(db, Counter, waits):
    """97. A commit() before anything was changed saved nothing, so the work runs again."""
    calls = []

    @db_session(retry=1)
    def work():
        calls.append(Counter.get(name="first").value)
        commit()
        if len(calls) == 1:
            raise TransactionError

    work()
    assert calls == [0, 0]


def test_a_block_with_retry_says_why_it_does_not_run_again(db, Counter):
    """100. The body of a block never runs twice; what retry was meant for is raised, with the way out."""
    runs = []
    with pytest.raises(TransactionIntegrityError) as caught, db_session(retry=3):
        runs.append(Counter(name="first"))
    assert len(runs) == 1
    assert caught.value.__notes__ == [
        (
            "retry=3 could not help: a `with` block cannot run its body again. Write it as a loop "
            "(`for attempt in db_session.attempts(retry=3): with attempt: ...`), or put the work into a function "
            "with @db_session(retry=3)"
        )
    ]
    with pytest.raises(OptimisticCheckError) as raised, db_session(retry=1):
        raise OptimisticCheckError("somebody else was faster")
    assert "cannot run its body again" in raised.value.__notes__[0]
    with pytest.raises(ZeroDivisionError) as other, db_session(retry=1):
        1 / 0
    assert not hasattr(other.value, "__notes__")
    with pytest.raises(TransactionError) as saved, db_session(retry=1, allowed_exceptions=TransactionError):
        raise TransactionError
    assert not hasattr(saved.value, "__notes__")


def test_a_function_with_retry_says_nothing_of_blocks(db, Counter, waits):
    """99. What a decorated function raises at last has the number of attempts, and no word about blocks."""
    work, _ = failing(9, OptimisticCheckError, retry=1)
    with pytest.raises(OptimisticCheckError) as caught:
        work()
    assert caught.value.__notes__ == ["after 2 attempts"]
