"""The end of a strict scope: its objects keep their keys, and give up everything else.

What is only marked as unreadable would still be held in memory, and an attribute that was read is found in the
object's ``__dict__`` without any code of ours that could refuse it. So rows and values are taken away. The
shared states of a unit of work make its other ends cheap; this one costs a little for each object.
"""

from __future__ import annotations

from collections.abc import Iterable

from dbsession.model.entity import EntityBase
from dbsession.model.state import KeyRow, State, Status, set_row, set_state

__all__ = ["empty_objects"]


def empty_objects(objects: Iterable[EntityBase], reason: str) -> None:
    """Take rows, values and collections away from *objects*, all but their keys; *reason* says why they are over.

    New objects, which are in no database, keep what the program gave them.
    """
    emptied = State(Status.EMPTIED, None, f"{reason}, and it was strict, so that only the keys of its objects are left")
    for obj in objects:
        if not obj._state_.has_row:  # new; or emptied already
            continue
        values = obj.__dict__
        for name in obj._mapping_.collections:
            collection = values.get(name)
            if collection is not None:  # the program may hold it
                collection.empty()
        set_row(obj, KeyRow((obj._key_,)))
        set_state(obj, emptied)
        object.__delattr__(obj, "__dict__")
