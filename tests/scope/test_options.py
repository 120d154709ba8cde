"""The options of a scope are checked where they are written."""

import inspect
from typing import get_type_hints

import pytest

from dbsession import DBSession, TransactionError, TransactionIntegrityError, db_session, savepoint
from dbsession.session.options import GivenOptions, OptionsButRetry, make_options


class Odd(Exception):
    pass


OPTIONS = ("retry", "immediate", "serializable", "optimistic", "retry_exceptions", "allowed_exceptions")


# --- options --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("retry", [True, False, 1.0, -1, "3", None, TransactionError])
def test_retry_is_a_number(retry):
    """`retry` is an int of at least 0: no bool, no float, nothing negative."""
    with pytest.raises(TypeError, match="retry is the number of retries, an int of at least 0, not "):
        db_session(retry=retry)


@pytest.mark.parametrize("name", ["immediate", "serializable", "optimistic"])
@pytest.mark.parametrize("value", [1, None, "yes"])
def test_switches_are_true_or_false(name, value):
    """A switch is True or False, and nothing that is only nearly so."""
    with pytest.raises(TypeError, match=rf"{name} is True or False, not {value!r}"):
        db_session(**{name: value})


def test_an_unknown_option_is_named_with_those_that_exist():
    """An option that does not exist is an error which names it, and those that do, with a guess."""
    with pytest.raises(TypeError) as caught:
        db_session(serialisable=True)
    message = str(caught.value)
    assert "db_session has no option 'serialisable'" in message
    assert "did you mean 'serializable'?" in message
    assert all(name in message for name in OPTIONS)


def test_options_are_given_by_name():
    """db_session takes options by keyword, or one function; everything else says so."""
    for call in (lambda: db_session(3), lambda: db_session("x"), lambda: db_session(None)):
        with pytest.raises(TypeError, match="db_session decorates functions, not "):
            call()
    with pytest.raises(TypeError, match="one function to decorate, or options by keyword, not both"):
        db_session(print, retry=1)
    with pytest.raises(TypeError, match="one function to decorate"):
        db_session(print, print)


def test_db_session_without_options_is_itself():
    """`db_session()` is `db_session`; with options it is another object of its class."""
    assert db_session() is db_session
    assert isinstance(db_session(retry=1), DBSession)
    assert db_session(retry=1) is not db_session
    assert db_session(retry=0)() is not db_session


@pytest.mark.parametrize("name", ["retry_exceptions", "allowed_exceptions"])
@pytest.mark.parametrize("value", [int, (int,), [Odd, str], "Odd", 5, None, (Odd(),), Odd()])
def test_exceptions_are_classes_or_a_function(name, value):
    """A class can be called, too; so a class that is no exception is refused, not taken for a function."""
    with pytest.raises(TypeError, match=rf"{name} is an exception class, several of them, or a function"):
        db_session(**{name: value})


@pytest.mark.parametrize("name", ["retry_exceptions", "allowed_exceptions"])
@pytest.mark.parametrize("value", [Odd, (Odd,), [Odd], {Odd}, (cls for cls in [Odd]), (), lambda error: error.args])
def test_exceptions_may_be_written_in_many_ways(name, value):
    """One class, any iterable of classes, or a function."""
    assert isinstance(db_session(**{name: value}), DBSession)


def test_an_exception_is_retried_or_allowed_not_both():
    """The same class in both lists is an error; that integrity errors are retried by default does not count."""
    with pytest.raises(TypeError, match="Odd: an exception cannot be retried and allowed at the same time"):
        db_session(retry=1, retry_exceptions=(Odd, ValueError), allowed_exceptions=[KeyError, Odd])
    db_session(retry=1, allowed_exceptions=TransactionError)
    db_session(retry=1, allowed_exceptions=TransactionIntegrityError)


@pytest.mark.parametrize("name", ["statement_timeout", "lock_timeout"])
@pytest.mark.parametrize("value", [0, -1, 0.0, float("inf"), float("nan")])
def test_a_timeout_is_finite_and_above_zero(name, value):
    """A time without end would be none to the database, and is written None."""
    with pytest.raises(ValueError, match=f"{name} is a finite number of seconds above 0, not {value!r}"):
        db_session(**{name: value})
    assert isinstance(db_session(**{name: None}), DBSession)


def test_type_checkers_and_help_know_every_option():
    """What is checked at run time is what type checkers are told, and what ``help(db_session)`` shows with its default."""
    options = {name: each.default for name, each in inspect.signature(make_options).parameters.items()}
    assert set(get_type_hints(GivenOptions)) == set(options) == {*get_type_hints(OptionsButRetry), "retry"}
    shown = inspect.getdoc(DBSession)
    written = {"retry_exceptions": "(TransactionError,)", "nested": '"join"'}
    for name, default in options.items():
        assert f"``{name}={written.get(name, default)}``" in shown


def test_savepoint_is_entered_as_it_is_and_takes_no_options():
    """`savepoint()` is `savepoint`; options belong to db_session."""
    assert savepoint() is savepoint and repr(savepoint) == "savepoint"
    with pytest.raises(TypeError, match="savepoint has its options already; give all of them to db_session at once"):
        savepoint(strict=True)


def test_the_repr_tells_the_options():
    """The repr shows what was asked for."""
    assert repr(db_session) == "db_session"
    assert repr(db_session(retry=3, serializable=True)) == "db_session(retry=3, serializable=True)"
