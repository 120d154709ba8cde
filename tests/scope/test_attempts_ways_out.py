"""100. Ways out of a block in a loop over attempts: its end, return, break, continue, and more code behind it.

A conflict that only the commit shows must run the block again, or be raised; where the loop does not go
on, swallowing it would make work that was lost look saved.
"""

import contextlib

import pytest

from dbsession import OptimisticCheckError, TransactionError, commit, db_session
from dbsession.scope import retry as retry_module
from dbsession.scope import stack
from tests.notes import conflict, declare_note, texts
from tests.observing import rows


@pytest.fixture
def Note(db):
    return declare_note(db)


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """What would be slept between the attempts."""
    slept = []
    monkeypatch.setattr(retry_module.time, "sleep", slept.append)
    return slept


def returning(Note, conflicts):
    for attempt in db_session.attempts(retry=3):
        with attempt:
            Note(text=f"run {attempt.number}")
            if attempt.number <= conflicts:
                conflict(Note)
            return "done"
    return "never"


def breaking_inside(Note, conflicts):
    for attempt in db_session.attempts(retry=3):
        with attempt:
            Note(text=f"run {attempt.number}")
            if attempt.number <= conflicts:
                conflict(Note)
            break
    return "done"


def breaking_inside_of_two_loops(Note, conflicts):
    for _ in range(1):
        for attempt in db_session.attempts(retry=3):
            with attempt:
                Note(text=f"run {attempt.number}")
                if attempt.number <= conflicts:
                    conflict(Note)
                break
    return "done"


def breaking_outside(Note, conflicts):
    for attempt in db_session.attempts(retry=3):
        with attempt:
            Note(text=f"run {attempt.number}")
            if attempt.number <= conflicts:
                conflict(Note)
        break
    return "done"


def breaking_after_an_error(Note, conflicts):
    for attempt in db_session.attempts(retry=3):
        with attempt:
            Note(text=f"run {attempt.number}")
            if attempt.number <= conflicts:
                raise OptimisticCheckError
        break
    return "done"


def more_behind_the_block(Note, conflicts):
    for attempt in db_session.attempts(retry=3):
        with attempt:
            Note(text=f"run {attempt.number}")
            if attempt.number <= conflicts:
                raise OptimisticCheckError
        print(attempt)
    return "done"


def within_an_exit_stack(Note, conflicts):
    for attempt in db_session.attempts(retry=3):
        with contextlib.ExitStack() as stack_of_contexts:
            stack_of_contexts.enter_context(attempt)
            Note(text=f"run {attempt.number}")
            if attempt.number <= conflicts:
                conflict(Note)
    return "done"


def while_loop(Note, conflicts):
    attempts = iter(db_session.attempts(retry=3))
    while attempt := next(attempts, None):
        with attempt:
            Note(text=f"run {attempt.number}")
            if attempt.number <= conflicts:
                conflict(Note)
    return "done"


def continuing(Note, conflicts):
    for attempt in db_session.attempts(retry=3):
        with attempt:
            Note(text=f"run {attempt.number}")
            if attempt.number <= conflicts:
                conflict(Note)
            continue
    return "done"


def in_a_try(Note, conflicts):
    for attempt in db_session.attempts(retry=3):
        try:
            with attempt:
                Note(text=f"run {attempt.number}")
                if attempt.number <= conflicts:
                    conflict(Note)
        except ValueError:
            raise AssertionError from None
    return "done"


def in_an_if(Note, conflicts):
    done = ""
    while not done:
        for attempt in db_session.attempts(retry=3):
            if not done:
                with attempt, contextlib.nullcontext():
                    Note(text=f"run {attempt.number}")
                    if attempt.number <= conflicts:
                        conflict(Note)
        done = "done"
    return done


def returning_sometimes(Note, conflicts):
    for attempt in db_session.attempts(retry=3):
        with attempt:
            Note(text=f"run {attempt.number}")
            if attempt.number > conflicts:
                return "done"
            conflict(Note)
    return "never"


def with_a_long_body(Note, conflicts):
    """Has jumps that are too far for one byte, and no source."""
    lines = [
        "for attempt in db_session.attempts(retry=3):",
        "    with attempt:",
        "        Note(text=f'run {attempt.number}')",
        *["        attempt.number + 1"] * 2000,
        "        if attempt.number <= conflicts:",
        "            conflict(Note)",
    ]
    names = {"db_session": db_session, "Note": Note, "conflicts": conflicts, "conflict": conflict}
    exec("\n".join(lines), names)
    return "done"


LOST = [
    returning,
    breaking_inside,
    breaking_inside_of_two_loops,
    breaking_outside,
    breaking_after_an_error,
    more_behind_the_block,
    within_an_exit_stack,
    while_loop,
]
GOES_ON = [continuing, in_a_try, in_an_if, returning_sometimes, with_a_long_body]


@pytest.mark.parametrize("block", [*LOST, *GOES_ON])
def test_every_way_out_saves_the_work(db, Note, block):
    """100. return, break, continue or the end of the block: without a conflict the work is saved, once, and the loop is over."""
    assert block(Note, 0) == "done"
    assert texts(db) == ["first", "run 1"]
    assert stack.current_frame() is None


@pytest.mark.parametrize("block", GOES_ON)
def test_a_conflict_runs_a_block_again_that_goes_on(db, Note, block):
    """100. Where the loop goes on behind the block, a conflict at the commit runs it again."""
    assert block(Note, 2) == "done"
    assert texts(db) == ["first", "run 3"]


@pytest.mark.parametrize("block", LOST)
def test_a_conflict_is_raised_where_the_loop_would_not_go_on(db, Note, block):
    """100. Behind return and break, or with more behind the block, no error is swallowed: work that is not saved never looks so."""
    with pytest.raises(OptimisticCheckError) as caught:
        block(Note, 1)
    (note,) = caught.value.__notes__
    assert "the loop over db_session.attempts() would not have gone on" in note
    assert texts(db) == ["first"]
    assert stack.current_frame() is None


def test_a_return_with_a_conflict_of_an_earlier_run_tells_of_it(db, Note):
    """99, 100. The error that a return could not wait for has the attempts before it."""

    def work():
        for attempt in db_session.attempts(retry=3):
            with attempt:
                conflict(Note)
                if attempt.number == 2:
                    return

    with pytest.raises(OptimisticCheckError) as caught:
        work()
    assert len(caught.value.attempts) == 1
    assert caught.value.__notes__[-1] == "after 2 attempts"


def test_a_return_after_a_commit_of_ones_own_is_safe(db, Note):
    """100. commit() as the last thing before a return: its conflict runs the block again."""

    def work():
        for attempt in db_session.attempts(retry=3):
            with attempt:
                if attempt.number == 1:
                    conflict(Note)
                else:
                    Note[1].likes += 1
                commit()
                return attempt.number
        raise AssertionError

    assert work() == 2
    assert rows(db, "SELECT likes FROM note") == [11]


def test_an_error_that_the_body_handles_ends_the_loop(db, Note):
    """100. An error that is not swallowed, and that the body of the loop catches, is the end of the loop."""
    seen = []
    for attempt in db_session.attempts(retry=1):
        try:
            with attempt:
                seen.append(attempt.number)
                raise TransactionError
        except TransactionError as error:
            seen.append(error)
    assert [type(each) for each in seen] == [int, int, TransactionError]
