"""What is to be done when the work of the current scope is committed, or rolled back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from dbsession.scope import stack
from dbsession.session.hooks import Event, make_hook

__all__ = ["on_commit", "on_rollback"]

F = TypeVar("F", bound=Callable[[], Any])


def on_commit(function: F) -> F:
    """Call *function* once, without arguments, after the work of the current scope is proven to be committed.

    That is after the COMMIT of the outermost scope; if the current scope is an inner one and fails, the
    function is forgotten with its work. It runs outside of the transaction: what it does in the database
    needs a `db_session` of its own (after a `commit()` within the scope, it is in the next transaction).
    An error in it is logged (logger ``dbsession``), and changes nothing. Returns *function*, so that this
    can be a decorator.

    Raises:
        NoScopeError: there is no db_session here.
        TypeError: *function* cannot be called, or is a coroutine function.
    """
    _register(Event.COMMIT, function)
    return function


def on_rollback(function: F) -> F:
    """Call *function* once, without arguments, after the work of the current scope has been rolled back.

    In an inner scope that fails it runs at the end of that scope. Where nobody knows whether a commit
    was done (`CommitOutcomeUnknown`), and where only a part was (`PartialCommitException`), neither these
    functions nor those of `on_commit` run. Otherwise as `on_commit`.

    Raises:
        NoScopeError: there is no db_session here.
        TypeError: *function* cannot be called, or is a coroutine function.
    """
    _register(Event.ROLLBACK, function)
    return function


def _register(event: Event, function: Callable[[], Any]) -> None:
    stack.current_session().add_hook(make_hook(event, function))
