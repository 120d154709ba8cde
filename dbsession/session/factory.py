"""`sessionmaker`: sessions of one database with the same options."""

from __future__ import annotations

from typing import Any, Unpack

from dbsession.model.elsewhere import FactoryNames
from dbsession.session.arguments import require_database
from dbsession.session.options import SessionOptions, make_session_options
from dbsession.session.session import Session
from dbsession.session.unit_of_work import DatabaseLink

__all__ = ["sessionmaker"]


class sessionmaker(FactoryNames):  # noqa: N801 - the name that the field knows it by
    """A factory of sessions with the same options: ``Session = sessionmaker(bind=db)``, then ``with Session() as s:``.

    *bind* is the `Database`. Options given to a call win over those of the factory.

    Raises:
        TypeError: *bind* is no `Database`; an option does not exist or does not fit.
    """

    __slots__ = ("_bind", "_options")

    def __init__(self, bind: DatabaseLink, **options: Unpack[SessionOptions]) -> None:
        require_database("sessionmaker()", bind)
        make_session_options(options)
        self._bind = bind
        self._options = options

    def __repr__(self) -> str:
        given = "".join([f", {name}={value!r}" for name, value in self._options.items()])
        return f"sessionmaker(bind={self._bind}{given})"

    def __call__(self, **options: Unpack[SessionOptions]) -> Session:
        """Return a new session."""
        merged: Any = {**self._options, **options}
        if "info" in self._options and "info" in options:
            merged["info"] = {**(self._options["info"] or {}), **(options["info"] or {})}
        return Session(self._bind, **merged)
