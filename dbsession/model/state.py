"""The states of an object, and the one slot that says which it is in.

An entity object has no state object of its own. It has three slots: its row as the database gave
it, its `State`, and its unsaved changes. A `State` is *shared*: each unit of work has one for each
status, so that loading an object stores a pointer, and the end of a scope detaches ten thousand
objects by changing a handful of states.

====================  ==========  ===========  ==================================================
status                persistent  may change   how an object gets here
====================  ==========  ===========  ==================================================
TRANSIENT             no          no           its insert was rolled back, or it was deleted unsaved
NEW                   not yet     yes          constructed in a scope, or added to a session
... of no session     no          yes          constructed outside any scope: users see it as *transient*
CLEAN                 yes         yes          loaded, or flushed
DIRTY                 yes         yes          an attribute of a clean one was assigned
MARKED_FOR_DELETION   still       no           ``delete()``, until the next flush
... of no session     unknown     yes, no      copied or unpickled: users see all three as *detached*
DELETED               no          no           flushed; lives again after a rollback
DETACHED              unknown     no           its scope has ended
EMPTIED               unknown     no           its scope was strict, and has ended: the key is all it has
====================  ==========  ===========  ==================================================

An object *of no session* has a unit of work all the same, one without a connection (`Unit.is_detached`), in which it is
new, clean, dirty or marked for deletion like any other. So the same code changes it, and records what has changed.
Every status but TRANSIENT, DETACHED and EMPTIED has a unit of work. Objects in TRANSIENT and DETACHED can become
objects of a session (again) by ``session.add`` and ``session.attach``.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Protocol

from dbsession.errors import DatabaseSessionIsOver, OperationWithDeletedObjectError, OrmError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dbsession.model.attributes import Attribute
    from dbsession.model.collections import Collection, CollectionAttribute
    from dbsession.model.entity import EntityBase
    from dbsession.model.mapping import Mapping
    from dbsession.model.references import ReferenceAttribute

__all__ = [
    "DISCARDED",
    "NOT_LOADED",
    "ROLLED_BACK",
    "UNSET",
    "Detached",
    "Group",
    "KeyRow",
    "Savepoint",
    "Slots",
    "State",
    "States",
    "Status",
    "Unit",
    "set_changes",
    "set_row",
    "set_state",
]


class _Sentinel:
    """A value that no database has."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name

    def __reduce__(self) -> str:
        return self._name


NOT_LOADED: Final[Any] = _Sentinel("NOT_LOADED")
"""Stands in a row for a column that was not asked for."""
UNSET: Final[Any] = _Sentinel("UNSET")
"""Stands for an argument that was not given."""

_AGAIN = "get the object again in the db_session that needs it"
_ANOTHER = "make a new object, or session.add(...) this one"


class KeyRow(tuple[Any, ...]):
    """The row of an object of a strict scope that has ended: no column is loaded, and the key is kept aside."""

    __slots__ = ()

    def __getitem__(self, position: Any) -> Any:
        return NOT_LOADED

    @property
    def key(self) -> Any:
        """The key as rows have it."""
        return tuple.__getitem__(self, 0)


class Status(Enum):
    """Where an object stands between the program and the database: the table at the head of this module."""

    TRANSIENT = ("transient", False, False, False)
    NEW = ("new", False, True, False)
    CLEAN = ("clean", True, True, True)
    DIRTY = ("dirty", True, True, True)
    MARKED_FOR_DELETION = ("marked for deletion", True, False, True)
    DELETED = ("deleted", False, False, True)
    DETACHED = ("detached", False, False, True)
    EMPTIED = ("emptied", False, False, False)

    def __init__(self, label: str, is_persistent: bool, may_change: bool, has_row: bool) -> None:
        self.label = label
        self.is_persistent = is_persistent
        self.may_change = may_change
        self.has_row = has_row  # the row holds the key


class Group:
    """Stands for a unit of work, also when it is gone: its objects belong together."""

    __slots__ = ("__weakref__",)


class State:
    """A status together with the unit of work that it holds in; shared by all objects that are so."""

    __slots__ = (
        "ahead",
        "before",
        "example",
        "group",
        "has_changes",
        "has_row",
        "is_new",
        "is_persistent",
        "is_undone",
        "is_unknown",
        "may_change",
        "reason",
        "status",
        "unit",
    )

    def __init__(
        self,
        status: Status,
        unit: Unit | None,
        reason: str = "",
        example: str = "",
        ahead: str = "",
        group: Group | None = None,
    ) -> None:
        self.group = group or Group()
        self.before = status  # what it was when the scope ended
        self.reason = reason
        self.example = example  # a call that would have loaded such objects
        self.ahead = ahead  # what query.prefetch() would have had to be given
        self.status = status
        self.unit = unit
        self.is_unknown = False
        self.is_undone = False  # clean, since changes that it was attached with were rolled back
        # Asked on hot paths, where hashing an enum member would be the most expensive thing.
        self.is_new = status is Status.NEW
        self.has_changes = status is Status.DIRTY or status is Status.MARKED_FOR_DELETION  # `_changes_` is set
        self.has_row = status.has_row
        self.is_persistent = status.is_persistent
        self.may_change = status.may_change

    def end(self, reason: str, *, is_unknown: bool = False) -> None:
        """Detach every object that has this state; *reason* says why, in later messages.

        *is_unknown*: nobody knows whether what was unsaved of them has been saved.
        """
        self.reason = reason
        self.is_unknown = is_unknown
        self.unit = None
        self.before = self.status
        self.status = Status.TRANSIENT if self.is_new else Status.DETACHED
        self.is_new = self.has_changes = self.is_persistent = self.may_change = False

    def over(self, doing: str, way_out: str, also: str = "") -> OrmError:
        """Return the error for *doing* what needs the unit of work, which an object in this state has no more.

        *way_out*: what would have been possible; *also*: what else is to be known of the object.
        """
        if self is DISCARDED:
            return OperationWithDeletedObjectError(f"Cannot {doing}: {self.reason}; {_ANOTHER}")
        if self.status is Status.TRANSIENT:
            if self.doubt:
                return DatabaseSessionIsOver(f"Cannot {doing}: {self.doubt}")
            way_out = _ANOTHER
        return DatabaseSessionIsOver(f"Cannot {doing}: {self.reason}{also}; {way_out}")

    def unreadable(self, what: str, call: str, ahead: str, also: str = "") -> OrmError:
        """Return the error for reading *what*, which is not in memory.

        *call*: what would have loaded it; *ahead*: what a query would have had to prefetch.
        """
        if self.status is Status.EMPTIED:
            return self.over(f"read {what}", "read it within the scope, or do without strict=True")
        way_out = f"read it within the scope, or load it there with {call}, or with query.prefetch({ahead})"
        return self.over(f"load {what}", way_out, also)

    def why_stranger(self, example: str) -> str:
        """Say, behind the name of an object, why another session cannot take it; *example* would get it there."""
        way_out = f"get it {'again ' if self.unit is None else ''}in this scope, for instance with {example}"
        if self.doubt:
            return f": {self.doubt}"
        if self.status is Status.TRANSIENT:
            return f": {self.reason}; {_ANOTHER}"
        if self.unit is None:
            return f": {self.reason}; {way_out}, or session.attach(...) it first"
        if self.unit.is_detached:
            return f", which is in no session; {self.way_in} it first"
        return f", which belongs to another live session (or database); {way_out}"

    @property
    def doubt(self) -> str:
        """Why nobody knows whether such objects, or changes of them, were saved, and what to do; empty if it is."""
        if self.unit is not None or not (self.is_unknown or self.before is Status.DIRTY):
            return ""
        if self.before is Status.NEW:
            return (
                f"{self.reason}, so that nobody knows whether it was saved; look for it in the database, and make a "
                f"new object if it is not there"
            )
        if self.before is Status.DIRTY:
            return (
                f"{self.reason}, so that nobody knows whether its changes were saved; get it again in the session that "
                f"needs it"
            )
        return ""

    @property
    def label(self) -> str:
        """What users see of the status."""
        if self.unit is None or not self.unit.is_detached:
            return self.status.label
        return "transient" if self.is_new else f"detached, {self.status.label}"

    @property
    def way_in(self) -> str:
        """The verb that makes an object of no session one of a session's."""
        return f"session.{'add' if self.is_new or self.status is Status.TRANSIENT else 'attach'}(...)"

    def require_unit(self, obj: EntityBase, doing: str, way_out: str = _AGAIN) -> Unit:
        """Return the unit of work of *obj*, checked to be usable from here.

        Raises:
            DatabaseSessionIsOver: the object has none any more; *doing* says what was tried, *way_out* what to do.
            OperationWithDeletedObjectError: it was deleted before it was saved.
            ScopeOwnershipError: the scope belongs to another thread or task.
        """
        unit = self.unit
        if unit is None:
            raise self.over(doing, way_out)
        unit.check_owner()
        return unit

    def require_change(self, obj: EntityBase, doing: str) -> Unit:
        """Return the unit of work of *obj* for a change of it.

        Raises:
            OperationWithDeletedObjectError: the object was deleted.
            DatabaseSessionIsOver, ScopeOwnershipError: as for `require_unit`.
        """
        unit = self.require_unit(obj, doing)
        if not self.may_change:
            raise OperationWithDeletedObjectError(
                f"Cannot {doing}: {obj!r} was deleted in this session; rollback() would bring it back"
            )
        return unit


class Slots:
    """The three slots of every entity object, and no more: see the head of this module."""

    __slots__ = ("__dict__", "__weakref__", "_changes_", "_row_", "_state_")

    _row_: tuple[Any, ...]
    _state_: State
    _changes_: dict[str, Any]
    if TYPE_CHECKING:
        __dict__: dict[str, Any]


# The slots' own setters: unlike ``obj._row_ = row`` they do not pass through the entity's __setattr__,
# which is for users.
set_row: Final[Callable[[Slots, tuple[Any, ...]], None]] = Slots.__dict__["_row_"].__set__
set_state: Final[Callable[[Slots, State], None]] = Slots.__dict__["_state_"].__set__
set_changes: Final[Callable[[Slots, dict[str, Any]], None]] = Slots.__dict__["_changes_"].__set__


# Objects in these belong to no unit of work any more, so all units share them.
ROLLED_BACK: Final = State(Status.TRANSIENT, None, "its creation was rolled back, it is in no database")
DISCARDED: Final = State(Status.TRANSIENT, None, "it was deleted before it was saved, it is in no database")


_SHARED: Final = {
    "new": Status.NEW,
    "clean": Status.CLEAN,
    "dirty": Status.DIRTY,
    "marked": Status.MARKED_FOR_DELETION,
    "deleted": Status.DELETED,
    "undone": Status.CLEAN,  # see `State.is_undone`
}


class States:
    """The shared states of one unit of work, each made when the first object needs it."""

    __slots__ = ("_group", "_made", "_unit", "clean", "deleted", "dirty", "marked", "new", "undone")

    new: State
    clean: State
    dirty: State
    marked: State
    deleted: State
    undone: State

    def __init__(self, unit: Unit) -> None:
        self._unit: Unit | None = unit
        self._made: list[State] = []
        self._group: Group | None = None

    def __getattr__(self, name: str) -> State:  # asked for a slot that is empty still
        if name not in _SHARED:
            raise AttributeError(f"no state is called {name!r}")
        state = State(_SHARED[name], self._unit, group=self._group)
        state.is_undone = name == "undone"
        self._group = state.group
        self._made.append(state)
        setattr(self, name, state)
        return state

    def end(self, reason: str, *, is_unknown: bool = False) -> None:
        """Detach every object of the unit of work; see `State.end`."""
        for state in self._made:
            state.end(reason, is_unknown=is_unknown)
        self._unit = None  # no cycle is left for the garbage collector

    def belong_to(self, unit: Unit) -> None:
        """Let all objects that have one of these states be objects of *unit*."""
        self._unit = unit
        for state in self._made:
            state.unit = unit


class Savepoint(Protocol):
    """What an inner scope needs to be undone in memory."""

    def keep(self, obj: EntityBase) -> None:
        """Keep what *obj* is, before the first change that the inner scope makes to it."""
        ...


class Unit(Protocol):
    """What entities ask of their unit of work. The session room has the only implementation."""

    states: States
    dirty: dict[EntityBase, None]  # the objects with unsaved changes
    deleted: dict[EntityBase, None]  # those that the next flush deletes

    @property
    def is_detached(self) -> bool:
        """Whether it has no session: its objects are transient, or copies."""
        ...

    @property
    def savepoint(self) -> Savepoint | None:
        """Whom to tell of a change before it is made: there only within an inner scope."""
        ...

    def check_owner(self) -> None:
        """Raise `ScopeOwnershipError` if the caller is not the thread and task that opened the scope."""
        ...

    def add_new(self, obj: EntityBase) -> None:
        """Take in an object that the program has constructed."""
        ...

    def withdraw(self, obj: EntityBase) -> None:
        """Let *obj*, which was just taken in as new, go: its construction has failed in the end."""
        ...

    def require_room(self, *objects: EntityBase) -> None:
        """Raise unless *objects*, of units without a session, can be taken in together, with all that they reach.

        Raises:
            CacheIndexError: there is another object here for the row of one of them.
            ConstraintError: one of them is neither transient nor of this unit.
        """
        ...

    def take_in(self, *objects: EntityBase) -> None:
        """Let *objects*, of units without a session, be objects of this one, with all that they reach: all or none."""
        ...

    def mark_dirty(self, obj: EntityBase) -> dict[str, bool]:
        """Note that *obj* has its first unsaved change, and return the dict of its changes."""
        ...

    def key_changing(self, obj: EntityBase) -> None:
        """Note the key of *obj* before one of its key attributes is assigned."""
        ...

    def key_changed(self, obj: EntityBase) -> None:
        """Move *obj* to its new key, or raise `CacheIndexError` if another object has it."""
        ...

    def delete(self, *objects: EntityBase) -> None:
        """Delete *objects*, and what cascades from them, at the next flush; all of them, or, on an error, none."""
        ...

    def reference(self, mapping: Mapping, key: Any) -> EntityBase:
        """Return the object with *key*, known or not yet loaded; sends nothing."""
        ...

    def find(self, mapping: Mapping, key: Any) -> EntityBase | None:
        """Return the object with *key* if the identity map has it; sends nothing."""
        ...

    def find_referring(self, attribute: ReferenceAttribute, target: EntityBase) -> EntityBase | None:
        """Return an object in memory that refers to *target* by *attribute*; sends nothing."""
        ...

    def back_reference_changing(self, obj: EntityBase, attribute: ReferenceAttribute) -> None:
        """Note what the one-to-one *attribute* of *obj*, which has no column, has before it changes."""
        ...

    def load(self, obj: EntityBase, attribute: Attribute[Any]) -> None:
        """Load what the row of *obj* lacks of *attribute*."""
        ...

    def load_back_reference(self, obj: EntityBase, attribute: ReferenceAttribute) -> None:
        """Load the object whose column refers to *obj*."""
        ...

    def load_collection(self, collection: Collection[Any]) -> None:
        """Load the items of *collection*."""
        ...

    def collection_changing(self, collection: Collection[Any], item: EntityBase) -> None:
        """Note *collection* before *item* comes or goes; it is settled by commit or rollback."""
        ...

    def link_changed(
        self, attribute: CollectionAttribute, owner: EntityBase, item: EntityBase, *, add: bool, known: bool
    ) -> None:
        """Note a new (``add=False``: a removed) link; *known*: that it was not (was) there before is certain."""
        ...

    def pending_link(self, attribute: CollectionAttribute, owner: EntityBase, item: EntityBase) -> bool | None:
        """Tell whether a link is to be made (True) or removed (False) by the next flush; None: neither."""
        ...

    def select_items(self, collection: Collection[Any]) -> Any:
        """Return the query for the items of *collection*."""
        ...

    def is_linked(self, collection: Collection[Any], item: EntityBase) -> bool:
        """Ask the database whether *item* is in *collection*."""
        ...

    def flush_objects(self, objects: Iterable[EntityBase]) -> None:
        """Save *objects* and what they need to exist."""
        ...

    def refresh_lazy(self, obj: EntityBase, attributes: Iterable[Attribute[Any]]) -> None:
        """Load *attributes* of *obj* where they are missing."""
        ...


class Detached(Unit, Protocol):
    """A unit of work without a session, as copies need it."""

    def place(self, obj: EntityBase) -> bool:
        """Take in *obj*, which has its row, values and one of this unit's states; tell whether its key was free."""
        ...
