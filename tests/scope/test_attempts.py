"""`for attempt in db_session.attempts(retry=n): with attempt: ...`: a block that runs again."""

import asyncio
import gc
import itertools
import threading
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from dbsession import (
    CommitOutcomeUnknown,
    DatabaseSessionIsOver,
    NoScopeError,
    OptimisticCheckError,
    RetryPolicy,
    TransactionError,
    TransactionIntegrityError,
    commit,
    db_session,
    flush,
)
from dbsession.scope import retry as retry_module
from dbsession.scope import stack
from tests.notes import conflict, declare_note, texts
from tests.observing import elsewhere, rows, sent


class Odd(Exception):
    pass


@pytest.fixture
def Note(db):
    return declare_note(db)


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """What would be slept between the attempts."""
    slept = []
    monkeypatch.setattr(retry_module.time, "sleep", slept.append)
    return slept


# --- runs -------------------------------------------------------------------------------------------------------


def test_a_block_runs_once_if_all_is_well(db, Note, waits):
    """100. Success ends the loop; it costs what a scope costs, and waits for nothing."""
    runs = 0
    with sent(db) as spent:
        for attempt in db_session.attempts(retry=3):
            with attempt as session:
                runs += 1
                assert session._core is stack.current_session()
                Note(text="x")
    assert (runs, attempt.number, attempt.last_error, waits) == (1, 1, None, [])
    assert spent.round_trips == 1
    assert stack.current_frame() is None
    assert texts(db) == ["first", "x"]


@pytest.mark.parametrize("retry", [2, RetryPolicy(2)])
def test_attempts_may_be_told_how_many_without_a_name(Note, retry):
    """100. `attempts(n)` is `attempts(retry=n)`, with further options by name."""
    numbers = []
    for attempt in db_session.attempts(retry, retry_exceptions=Odd):
        with attempt:
            numbers.append(attempt.number)
            if attempt.number < 3:
                raise Odd
    assert numbers == [1, 2, 3]
    for wrong in (-1, "2", True):
        with pytest.raises(TypeError, match="retry is the number of retries"):
            db_session.attempts(wrong)


def test_a_block_runs_again_after_an_error(db, Note, waits):
    """100, 97, 102. Each run has a session of its own, and knows its number and the error before; objects of a failed one are over."""
    seen, notes = [], []
    for attempt in db_session.attempts(retry=3):
        with attempt as session:
            seen.append((attempt.number, attempt.last_error, session))
            for note in notes:
                with pytest.raises(DatabaseSessionIsOver):
                    note.likes = 1
            notes += [Note[1], Note(text=f"run {attempt.number}")]
            flush()
            if attempt.number < 3:
                raise TransactionError(f"error {attempt.number}")
    assert [number for number, _, _ in seen] == [1, 2, 3]
    assert [str(error) for _, error, _ in seen] == ["None", "error 1", "error 2"]
    assert len({id(session) for _, _, session in seen}) == 3
    assert len(waits) == 2
    assert texts(db) == ["first", "run 3"]


def test_a_conflict_at_the_commit_runs_the_block_again(db, Note):
    """100, 97. An error that only the commit shows, behind the last line of the block, runs it again."""
    runs = []
    for attempt in db_session.attempts(retry=3):
        with attempt:
            runs.append(attempt.last_error)
            if attempt.number == 1:
                conflict(Note)
            else:
                Note[1].likes += 1
    assert [type(error) for error in runs] == [type(None), OptimisticCheckError]
    assert rows(db, "SELECT likes FROM note") == [11]


def test_at_most_four_runs_with_three_retries(waits):
    """99, 100. When the retries are used up the last error is raised, with the ones before it and their number."""
    errors = [TransactionError(f"{number}") for number in range(9)]
    left = iter(errors)
    with pytest.raises(TransactionError) as caught:
        for attempt in db_session.attempts(retry=3):
            with attempt:
                raise next(left)
    assert caught.value is errors[3]
    assert caught.value.attempts == tuple(errors[:3])
    assert caught.value.__notes__ == ["after 4 attempts"]
    assert len(waits) == 3


@pytest.mark.parametrize("options", [{}, {"retry": 0}, {"serializable": True}])
def test_without_retry_there_is_one_attempt(options):
    """100. `retry` left out, or 0: the block runs once."""
    runs = []
    with pytest.raises(TransactionError):
        for attempt in db_session.attempts(**options):
            with attempt:
                runs.append(attempt.number)
                raise TransactionError
    assert runs == [1]


@pytest.mark.parametrize(
    "error, wanted",
    [
        (ValueError, TransactionError),
        (OptimisticCheckError, Odd),
        (CommitOutcomeUnknown, Exception),
        (KeyboardInterrupt, BaseException),
        (SystemExit, lambda _: True),
        (asyncio.CancelledError, BaseException),
        (GeneratorExit, GeneratorExit),
    ],
)
def test_an_error_that_is_not_to_be_retried_leaves_the_loop(error, wanted):
    """98, 100. Any other error leaves the loop at once, as it is."""
    original, runs = error(), 0
    with pytest.raises(error) as caught:
        for attempt in db_session.attempts(retry=3, retry_exceptions=wanted):
            with attempt:
                runs += 1
                raise original
    assert caught.value is original and not hasattr(original, "attempts")
    assert runs == 1
    assert stack.current_frame() is None


def test_an_allowed_exception_is_saved_and_leaves_the_loop(db, Note):
    """4, 98. What an allowed exception has committed is not done again, though its base class is to be retried."""

    class Special(Odd):
        pass

    with pytest.raises(Special):
        for attempt in db_session.attempts(retry=3, retry_exceptions=Odd, allowed_exceptions=Special):
            with attempt:
                Note(text=f"run {attempt.number}")
                raise Special
    assert texts(db) == ["first", "run 1"]


def test_work_that_was_committed_in_the_middle_is_not_run_again(db, Note):
    """97. What commit() has saved would be saved twice by another run: the error is raised, and says so."""
    with pytest.raises(TransactionError) as caught:
        for attempt in db_session.attempts(retry=3):
            with attempt:
                Note(text=f"run {attempt.number}")
                commit()
                raise TransactionError
    assert "commit() had saved a part of the work" in caught.value.__notes__[0]
    assert texts(db) == ["first", "run 1"]


# --- misuse -----------------------------------------------------------------------------------------------------------


def test_a_body_without_its_attempt_is_an_error(db, Note):
    """100. A body that forgets `with attempt:` is told so after its first turn, and its first use of the database, too."""
    turns = 0
    with pytest.raises(NoScopeError, match=r"<attempt 1 of 4> was never entered; put `with attempt:` around the whole"):
        for _ in db_session.attempts(retry=3):
            turns += 1
    assert turns == 1
    with pytest.raises(NoScopeError, match="outside any db_session"):
        for _ in db_session.attempts(retry=3):
            Note(text="x")


def test_an_attempt_that_is_never_left_is_an_error(Note):
    """100. An attempt entered by hand has to be left in its turn."""
    with pytest.raises(NoScopeError, match="<attempt 1 of 4> was never left"):
        for attempt in db_session.attempts(retry=3):
            attempt.__enter__()
    attempt.__exit__()
    assert stack.current_frame() is None


def test_an_attempt_is_entered_once(db, Note):
    """100. Twice in one turn, one in the other or one after the other, is an error; the work of the first stays."""
    for attempt in db_session.attempts(retry=3):
        with attempt:
            Note(text="x")
            with pytest.raises(NoScopeError, match="<attempt 1 of 4> was entered twice"), attempt:
                pass
    with pytest.raises(NoScopeError, match="was entered twice"), attempt:
        pass
    assert texts(db) == ["first", "x"]


def test_an_attempt_in_a_loop_of_its_own_is_no_way_to_lose_work(db, Note):
    """100. A failed attempt whose loop is left all the same gives a warning: its work is not saved."""

    def work():
        for attempt in db_session.attempts(retry=3):
            for _ in range(1):
                with attempt:
                    Note(text="x")
                    raise TransactionError("why")
            break

    with pytest.warns(RuntimeWarning, match="left after <attempt 1 of 4> had failed; its work is not saved: Transact"):
        work()
    assert texts(db) == ["first"]


def test_each_loop_over_attempts_is_a_new_one(db, Note):
    """100. The same attempts, iterated again, begin from the first."""
    attempts = db_session.attempts(retry=3)
    for _ in range(2):
        for attempt in attempts:
            with attempt:
                if attempt.number == 1:
                    raise TransactionError
        assert attempt.number == 2


def test_the_options_are_checked():
    """100. Options are those of db_session; given twice they are an error, since one of the two would be lost."""
    with pytest.raises(TypeError, match="db_session has no option 'retries'"):
        db_session.attempts(retries=3)
    with pytest.raises(TypeError, match="retry is the number of retries"):
        db_session.attempts(retry=True)
    with pytest.raises(TypeError, match="has its options already"):
        db_session(serializable=True).attempts(retry=3)
    assert [repr(attempt) for attempt in itertools.islice(db_session(retry=2).attempts(), 1)] == ["<attempt 1 of 3>"]


# --- nested ---------------------------------------------------------------------------------------------------------


def test_a_loop_within_another_scope_runs_once(db, Note):
    """101. Within another scope the block joins it, and its retry is ignored, with a warning that names the place."""
    runs = []

    def work():
        for attempt in db_session.attempts(retry=3):
            with attempt as session:
                runs.append(session)
                raise TransactionError

    with pytest.raises(TransactionError) as caught, db_session as outer, pytest.warns(RuntimeWarning) as warned:
        work()
    assert [session._core for session in runs] == [outer._core]
    (warning,) = warned
    assert warning.filename == __file__
    assert "retry=3 of the loop in test_a_loop_within_another_scope_runs_once.<locals>.work() is" in str(
        warning.message
    )
    assert not hasattr(caught.value, "__notes__")
    with db_session, warnings.catch_warnings():
        warnings.simplefilter("error")
        for attempt in db_session.attempts():  # no retry, nothing ignored
            with attempt:
                Note(text="x")
    assert texts(db) == ["first", "x"]


def test_an_inner_scope_of_an_attempt_joins_it(db, Note):
    """101. What is called in the block, with retry or without, is part of the attempt, which alone runs again."""
    runs = []

    @db_session(retry=5)
    def inner(number):
        runs.append(number)
        Note(text=f"run {number}")
        if number == 1:
            raise TransactionError

    for attempt in db_session.attempts(retry=3):
        with attempt, pytest.warns(RuntimeWarning, match="is ignored"):
            inner(attempt.number)
    assert runs == [1, 2]
    assert texts(db) == ["first", "run 2"]


@pytest.mark.parametrize("form", ["function", "loop"])
def test_an_independent_scope_is_outermost_to_its_work(db, Note, form):
    """101. With nested="independent" the work is not part of the outer scope, and runs again without a warning."""
    runs = []

    def work():
        runs.append(stack.current_session())
        Note(text=f"run {len(runs)}")
        if len(runs) == 1:
            raise TransactionError

    def loop():
        for attempt in db_session.attempts(retry=3, nested="independent"):
            with attempt:
                work()

    with db_session as outer, warnings.catch_warnings():
        warnings.simplefilter("error")
        mine = Note[1]
        loop() if form == "loop" else db_session(retry=3, nested="independent")(work)()
        assert Note[1] is mine
    assert len(runs) == 2 and outer not in runs
    assert texts(db) == ["first", "run 2"]


@pytest.mark.parametrize("saves", [True, False])
@pytest.mark.parametrize("form", ["function", "loop"])
def test_an_allowed_exception_ends_the_work(db, Note, form, saves):
    """4, 98. An allowed exception is an end of the work, not a failure: it is not run again, also if there was nothing to save."""
    runs = []

    def work():
        runs.append(Note(text="x") if saves else Note[1])
        raise OptimisticCheckError("allowed")

    options = {"retry": 3, "allowed_exceptions": OptimisticCheckError}

    def loop():
        for attempt in db_session.attempts(**options):
            with attempt:
                work()

    with pytest.raises(OptimisticCheckError) as caught:
        loop() if form == "loop" else db_session(**options)(work)()
    assert len(runs) == 1
    assert not hasattr(caught.value, "__notes__")
    assert texts(db) == ["first", *["x"] * saves]


# --- real conflicts ----------------------------------------------------------------------------------------------------


def test_a_real_conflict_runs_the_block_again(db, Note):
    """97, 100. Two threads read the same row, both change it: one runs again, and nothing is lost."""
    both_have_read = threading.Barrier(2)
    runs = {"one": 0, "other": 0}

    def add(name):
        for attempt in db_session.attempts(retry=3):
            with attempt:
                runs[name] += 1
                note = Note[1]
                likes = note.likes
                if attempt.number == 1:
                    both_have_read.wait(30)
                note.likes = likes + 1

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(add, runs))
    assert sorted(runs.values()) == [1, 2]
    assert rows(db, "SELECT likes FROM note") == [2]


def test_an_integrity_error_is_a_race_that_was_lost(db, Note):
    """98, 100. Look, find nothing, make it: somebody else was faster, and the second run finds it."""
    found = []
    for attempt in db_session.attempts(retry=1):
        with attempt:
            note = Note.get(text="x")
            if attempt.number == 1:
                elsewhere(db_session(lambda: Note(text="x")))
            found.append(note or Note(text="x"))
    assert isinstance(attempt.last_error, TransactionIntegrityError)
    assert found[1].id == rows(db, "SELECT id FROM note WHERE text = 'x'")[0]


def test_failed_runs_leave_nothing_behind(db, Note):
    """30. Objects of runs that failed are freed: at once for a function, for a loop with the next garbage collection."""
    seen = []

    def add(number):
        note = Note[1]
        note.likes += 1
        seen.append(weakref.ref(note))
        if number < 4:
            raise TransactionError

    def loop():
        for attempt in db_session.attempts(retry=3):
            with attempt:
                add(attempt.number)

    gc.disable()
    try:
        db_session(retry=3)(lambda: add(len(seen) + 1))()
        assert [ref() for ref in seen[:3]] == [None] * 3
        loop()
    finally:
        gc.enable()
    gc.collect()
    assert [ref() for ref in seen] == [None] * 8
