"""What joins a session and can fail alone: inner scopes, and the savepoints of `begin_nested`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from dbsession.errors import NestedScopeError
from dbsession.session.hooks import Hook
from dbsession.session.options import Options
from dbsession.session.unit_of_work import UnitOfWork

__all__ = ["Inner", "UndoneError", "upgraded"]


class Inner:
    """A scope that has joined the session, or a savepoint of it."""

    __slots__ = ("hooks", "is_block", "options")

    def __init__(self, options: Options, *, is_block: bool) -> None:
        self.options = options
        self.is_block = is_block  # of `begin_nested`: no scope of its own
        self.hooks: list[Hook] = []


class UndoneError(Exception):
    """The reason of a part that is rolled back with what is around it."""


def upgraded(mine: Options, asked: Options, units: Iterable[UnitOfWork]) -> Options:
    """Return the options of a session that has *mine*, with what an inner scope asks for beyond them.

    Raises:
        NestedScopeError: something has been sent already without, or the two contradict each other.
    """
    more = mine.beyond(asked)
    if not more:
        return mine
    try:
        wanted = replace(mine, **more)
        wanted.require_agreement()
    except TypeError as error:
        raise NestedScopeError(f"an inner db_session asks for what the outer one rules out: {error}") from None
    touched = [unit for unit in units if more.keys() != {"ddl"} or unit.dialect.ddl_is_special]
    if any(unit.link.is_connected for unit in touched):
        names = " and ".join(f"{name}={value!r}" for name, value in more.items() if value or name == "optimistic")
        raise NestedScopeError(
            f"an inner db_session asks for {names}, but the outer one, which it joins, has used the database "
            f"without; ask for it on the outer db_session, or let the inner one be nested='independent'"
        )
    for unit in units:
        unit.take_policy(wanted.policy, optimistic=wanted.optimistic)
    return wanted
