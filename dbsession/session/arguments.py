"""What the verbs of a session are given, and what to say where it does not fit."""

from __future__ import annotations

from typing import Any

from dbsession.model.entity import EntityMeta
from dbsession.model.expressions import Expression
from dbsession.query.query import Query

__all__ = ["instead_of", "require_asked", "require_database"]


def instead_of(given: Any, verb: str) -> str:
    """Say what to do with *given*, which is no object."""
    if isinstance(given, EntityMeta):
        name = given.__name__
        return f", a class: write session.add({name}(...))" if verb == "add" else f", a class; get an object of {name}"
    if isinstance(given, Query):
        return f"; a query has a verb of its own: query.{verb}()" if verb == "delete" else "; read it first"
    if isinstance(given, (list, tuple, set, frozenset)) and verb == "add":
        return "; session.add_all(...) takes several"
    if isinstance(given, dict) and verb in {"add", "attach", "merge"}:
        return "; session.merge(User, {...}) takes a dict, or make the object: User(...)"
    return ""


def require_asked(what: Any) -> None:
    """Raise if *what* is a text, or an expression (an attribute), which does not say over which objects it goes."""
    if isinstance(what, Expression | str):
        raise TypeError(
            f"session.query() takes an entity, or a generator expression for values: session.query(User), "
            f"session.query(u.name for u in User); not {what!r:.60}"
        )


def require_database(what: str, database: Any) -> None:
    """Raise unless *database* is one."""
    if not hasattr(type(database), "backend"):
        hint = f": write Database({database!r})" if isinstance(database, str) else ""
        raise TypeError(f"{what} takes a Database, not {database!r:.80}{hint}")
