"""Links between objects of different units of work: what is allowed, and who joins whom.

=======================  =============================  ==================================================
the object that refers   the one that is referred to    what happens
=======================  =============================  ==================================================
of a session             transient                      joins the session, with all that it reaches
of a session             a copy, in no session          refused: it has to be attached first
in no session            in no session                  they share one unit of work from now on
transient                of a session                   only the transient one knows, until it is added
a copy, in no session    of a session                   refused: the copy has to be attached first
of a session             of another session             refused
=======================  =============================  ==================================================
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from dbsession.errors import ConstraintError

if TYPE_CHECKING:
    from dbsession.model.entity import EntityBase
    from dbsession.model.state import Unit

__all__ = ["join", "joined", "require_linkable", "with_room"]


def require_linkable(
    obj: EntityBase | None, unit: Unit, other: EntityBase, doing: str, *, one_sided: bool = True
) -> None:
    """Raise unless *obj*, of *unit*, may have a link to *other*, which is of another unit.

    *obj* is None while it is being constructed; *doing* says what is tried, up to the name of *other*. *one_sided*: the
    link is noted with *obj*, so that *other* need not know of it.

    Raises:
        ConstraintError: the table at the head of this module refuses it.

    Whether there is room for it is asked by `with_room`, once for all objects of a call.
    """
    theirs = other._state_.unit
    if theirs is None or not (unit.is_detached or theirs.is_detached):
        raise ConstraintError(f"{doing} {other!r}{other._state_.why_stranger(f'{type(other).__name__}[key]')}")
    if theirs.is_detached:
        if not unit.is_detached and not other._state_.is_new:
            raise ConstraintError(f"{doing} {other!r}{other._state_.why_stranger(f'{type(other).__name__}[key]')}")
    elif not one_sided or (obj is not None and not obj._state_.is_new):
        way_in = "session.add(...)" if obj is None else obj._state_.way_in
        whose = "the object that you make" if obj is None else repr(obj)
        raise ConstraintError(
            f"{doing} {other!r}, which is of a session, while {whose} is of none; {way_in} it to that session first"
        )


def with_room(unit: Unit, objects: Iterable[EntityBase | None]) -> list[EntityBase]:
    """Return those of *objects*, which `require_linkable` has let pass, that are to join *unit*.

    Raises:
        CacheIndexError, ConstraintError: *unit* has no room for all of them; see `Unit.require_room`.
    """
    others = [obj for obj in objects if obj is not None and obj._state_.unit is not unit]
    coming = [obj for obj in others if (theirs := obj._state_.unit) is not None and theirs.is_detached]
    if coming:
        unit.require_room(*coming)
    return coming


def join(unit: Unit, objects: list[EntityBase]) -> list[EntityBase]:
    """Let those of *objects* that are in no session join *unit*, all of them or none; return *objects*.

    Raises:
        CacheIndexError, ConstraintError: as for `with_room`.
    """
    coming = with_room(unit, objects)
    if coming:
        unit.take_in(*coming)
    return objects


def joined(unit: Unit, other: EntityBase) -> bool:
    """Let *other*, which `require_linkable` has let pass, join *unit* if it is in no session; tell whether it has."""
    theirs = other._state_.unit
    if theirs is None or not theirs.is_detached:
        return False
    unit.take_in(other)
    return True
