"""The many side of a relation: ``user.orders``.

A `Collection` knows what the database had (`items`, once loaded) and what this session added and
removed since the last commit. Adding to one that is not loaded loads nothing: what is added and
removed is merged into what the database answers later. In a one-to-many relation the truth is the
reference on the other side, and the collection only follows it; in a many-to-many relation the
unit of work is told of each link.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any, Generic, SupportsIndex, TypeVar

from dbsession.errors import ConstraintError, NotLoadedError, ObjectNotFound
from dbsession.model.elsewhere import CollectionNames
from dbsession.model.expressions import Expression, ReferenceExpression
from dbsession.model.iterators import over, over_loaded
from dbsession.model.linking import join, joined, require_linkable, with_room
from dbsession.model.mapping import LinkTable, Mapping, Selection
from dbsession.model.stand_ins import object_behind, object_in
from dbsession.model.state import NOT_LOADED, Status

if TYPE_CHECKING:
    from dbsession.model.declarations import Declaration
    from dbsession.model.entity import EntityBase
    from dbsession.model.state import Unit

__all__ = ["Collection", "CollectionAttribute"]

T = TypeVar("T")

_DELETED = frozenset({Status.MARKED_FOR_DELETION, Status.DELETED})


class CollectionAttribute(Expression[Any]):
    """The descriptor of a `Set`."""

    target: Mapping
    reverse: Any  # the ReferenceAttribute (one-to-many) or CollectionAttribute (many-to-many) of the target
    link: LinkTable | None = None
    is_many = True
    is_left = True  # of the two sides of a many-to-many relation, the one whose columns come first
    is_virtual = True
    is_required = False
    is_key = False

    def __init__(self, declaration: Declaration[Any], name: str, mapping: Mapping) -> None:
        self.declaration = declaration
        self.name = name
        self.mapping = mapping
        self.cascade_delete: bool | None = declaration.options.get("cascade_delete")

    def __repr__(self) -> str:
        return f"{self.mapping.name}.{self.name}"

    def __get__(self, obj: EntityBase | None, owner: type | None = None) -> Any:
        if obj is None:
            return ReferenceExpression(self, self.target) if self.mapping.is_complete else self
        collection: Collection[Any] = Collection(obj, self)
        obj.__dict__[self.name] = collection
        return collection

    def of(self, obj: EntityBase) -> Collection[Any]:
        """Return the collection of *obj*; sends nothing."""
        collection: Collection[Any] | None = obj.__dict__.get(self.name)
        return self.__get__(obj) if collection is None else collection

    def checked(self, obj: EntityBase, value: Any) -> list[Any]:
        """Return the objects in *value*, which are to be the items of *obj*, or raise as `Collection.checked` does."""
        return self.of(obj).checked_items(value)

    def assign(self, obj: EntityBase, value: Any) -> None:
        """Replace the whole collection: ``user.orders = [a, b]``."""
        collection = self.of(obj)
        if value is collection:  # user.orders += [...] ends here
            return
        collection.replace(value)

    def released(self, owner: EntityBase, item: EntityBase, unit: Unit) -> None:
        """Note that *item* refers to *owner* no more."""
        self.of(owner).note_removed(item, unit)

    def taken(self, owner: EntityBase, item: EntityBase, unit: Unit) -> None:
        """Note that *item* refers to *owner* now."""
        self.of(owner).note_added(item, unit)


class Collection(CollectionNames, Generic[T]):
    """The objects that belong to one object by a `Set`.

    Reading it loads it whole: touching a second collection of the same kind loads it for all
    objects of the session. `add`, `remove` and `create` send nothing before the flush. After the
    scope, a loaded collection can still be read.
    """

    __slots__ = ("_added", "_attribute", "_items", "_owner", "_removed")

    def __init__(self, owner: EntityBase, attribute: CollectionAttribute) -> None:
        self._owner = owner
        self._attribute = attribute
        state = owner._state_
        is_empty = state.is_new or state.status is Status.TRANSIENT  # nobody can refer to what is in no database
        self._items: dict[T, None] | None = {} if is_empty else None  # dicts are ordered sets
        self._added: dict[T, None] = {}
        self._removed: dict[T, None] = {}

    def __repr__(self) -> str:
        inside = f"{len(self._items)} objects" if self._items is not None else "not loaded"
        return f"<{self._owner!r}.{self._attribute.name}: {inside}>"

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        """Let copies and pickles be lists; nothing is loaded for them."""
        if self._items is None:
            raise NotLoadedError(
                f"{self!r} cannot be copied or pickled: load it first, with {self._example}.load() or "
                f"query.prefetch({self._attribute!r})"
            )
        return list, (list(self._items),)

    # --- reading ------------------------------------------------------------------------------

    @property
    def is_loaded(self) -> bool:
        """Whether reading it sends nothing."""
        return self._items is not None

    def load(self) -> None:
        """Load the items, if they are not loaded yet."""
        if self._items is None:
            self._reading().load_collection(self)

    def _reading(self) -> Unit:
        """Return the unit of work that can load the items."""
        owner, state = self._owner, self._owner._state_
        what = f"collection {owner!r}.{self._attribute.name}"
        if state.unit is None:
            raise state.unreadable(what, f"{self._example}.load()", repr(self._attribute))
        return state.require_unit(owner, f"load {what}")

    @property
    def _example(self) -> str:
        return f"{self._attribute.mapping.variable}.{self._attribute.name}"

    def _loaded(self) -> dict[T, None]:
        self.load()
        assert self._items is not None
        return self._items

    def __iter__(self) -> Iterator[T]:
        return over(self, Collection._listed) if self._items is None else over_loaded(self, self._items)

    def _listed(self) -> list[T]:
        return list(self._loaded())

    def __len__(self) -> int:
        return len(self._loaded())

    def __bool__(self) -> bool:
        return not self.is_empty()

    def __contains__(self, item: object) -> bool:
        if not hasattr(item, "_state_"):
            return self._has_behind(item)
        candidate: Any = item
        self._require_same_session(candidate)
        if self._items is not None:
            return candidate in self._items
        if candidate in self._added:
            return True
        if candidate in self._removed or candidate._state_.is_new or candidate._state_.status in _DELETED:
            return False
        attribute = self._attribute
        if not isinstance(candidate, attribute.target.entity):
            return False
        unit = self._reading()
        if attribute.link is None:
            return getattr(candidate, attribute.reverse.name) is self._owner
        return unit.is_linked(self, candidate)

    def _has_behind(self, item: object) -> bool:
        """Tell whether *item*, which is no object, stands for one that is in the collection."""
        behind = object_behind(item)
        if behind is None or behind._mapping_.root is not self._attribute.target.root:
            return False
        unit, mapping, key = self._owner._state_.unit, behind._mapping_, behind._key_
        if unit is None:  # the scope is over
            self.load()
            return any(each._key_ == key for each in self.known)
        known = unit.find(mapping, key)
        if known is None:  # so it has neither come nor gone here
            shown = mapping.shown_key(key)
            parts = shown if len(mapping.key) > 1 else (shown,)
            named = {part.name: value for part, value in zip(mapping.key, parts, strict=True)}
            return self._items is None and self.select(**named).exists()
        try:
            return known in self
        except ObjectNotFound:  # its row is gone
            return False

    def _require_same_session(self, item: Any) -> None:
        """Raise where *item* stands for a row that may be here by another object, so that False might be wrong.

        Raises:
            ConstraintError: it is an object of another session, or the owner is.
        """
        mine, theirs = self._owner._state_, item._state_
        if mine.unit is theirs.unit or Status.TRANSIENT in {mine.status, theirs.status}:
            return
        if mine.is_new or theirs.is_new:  # in no database: there is no other object for it
            return
        if isinstance(item, self._attribute.target.entity):
            other = item if theirs.unit is None or mine.unit is not None else self._owner
            why = other._state_.why_stranger(f"{type(other).__name__}[key]")
            raise ConstraintError(
                f"Cannot look for {item!r} in {self._owner!r}.{self._attribute.name}: they are of different sessions. "
                f"{other!r}{why}"
            )

    def is_empty(self) -> bool:
        """Tell whether there is no item; asks the database for one item at most."""
        if self._items is not None:
            return not self._items
        if self._added:
            return False
        self._reading()
        return not self.select().exists()

    def count(self) -> int:
        """Return the number of items; asks the database to count them if they are not loaded."""
        if self._items is not None:
            return len(self._items)
        self._reading()
        return self.select().count()

    def select(self, /, *conditions: Any, **values: Any) -> Selection[T]:
        """Return the query for the items, narrowed by *conditions* and *values*."""
        owner, example = self._owner, self._example
        way_out = f"query it within the scope, or load it there with {example}.load(), and choose from it"
        unit = owner._state_.require_unit(owner, f"query collection {owner!r}.{self._attribute.name}", way_out)
        query: Selection[T] = unit.select_items(self)
        return query.filter(*conditions, **values) if conditions or values else query

    # --- changing -----------------------------------------------------------------------------

    def checked(self, values: Any) -> Iterator[Any]:
        """Yield the objects among *values*: objects, or iterables of them.

        Raises:
            TypeError: something is no object of the target.
            ConstraintError: an object of another session, or a deleted one.
        """
        attribute = self._attribute
        for value in values if isinstance(values, Iterable) and not hasattr(values, "_state_") else (values,):
            if isinstance(value, attribute.target.entity):
                if value._state_.unit is not self._owner._state_.unit:
                    doing = f"{self._owner!r}.{attribute.name} cannot take"
                    require_linkable(self._owner, self._changing(), value, doing, one_sided=attribute.link is not None)
                yield value
            elif hasattr(value, "_state_") or isinstance(value, str) or not isinstance(value, Iterable):
                if (behind := self._object_behind(value)) is not None:
                    yield from self.checked(behind)
                    continue
                raise TypeError(f"{self._owner!r}.{attribute.name} holds {attribute.target.name}, not {value!r:.80}")
            else:
                yield from self.checked(value)

    def checked_items(self, values: Any) -> list[Any]:
        """Return the objects among *values*, which are to be items, or raise as `checked` does."""
        items = list(dict.fromkeys(self.checked(values)))
        for item in items:
            if not item._state_.may_change:
                item._state_.require_change(item, f"add {item!r} to {self!r}")
        return items

    def _object_behind(self, value: Any) -> Any:
        """Return the object that *value* stands for; None if it is nothing of the kind, or has been looked up."""
        unit, target = self._owner._state_.unit, self._attribute.target
        if hasattr(value, "_state_"):
            if unit is None or not target.may_turn_out(value):
                return None
            value.load()
            return value if isinstance(value, target.entity) else None
        return None if unit is None else object_in(unit, value)

    def _changing(self) -> Unit:
        owner = self._owner
        return owner._state_.require_change(owner, f"change collection {owner!r}.{self._attribute.name}")

    def add(self, *items: Any) -> None:
        """Put *items* (objects, or iterables of them) into the collection; what is in it already stays.

        Raises:
            TypeError: something is no object of the target.
            DatabaseSessionIsOver: the scope has ended.
        """
        unit = self._changing()
        reverse = self._attribute.reverse
        for item in join(unit, self.checked_items(items)):
            if self._attribute.link is None:
                reverse.assign(item, self._owner)
            elif item not in self._added and (known := self._knows(item)) is not True:
                self.note_added(item, unit)
                if item._state_.unit is unit and (reverse is not self._attribute or item is not self._owner):
                    reverse.of(item).note_added(self._owner, unit)
                unit.link_changed(self._attribute, self._owner, item, add=True, known=known is False)

    def remove(self, *items: Any) -> None:
        """Take *items* out of the collection; what is not in it is left alone.

        With ``cascade_delete`` (the default where the reference back is required) the items are deleted.

        Raises:
            ConstraintError: the reference back is required, and ``cascade_delete=False``.
        """
        unit = self._changing()
        reverse = self._attribute.reverse
        for item in list(self.checked(items)):
            if self._attribute.link is not None:
                if item in self._removed or (known := self._knows(item)) is False:
                    continue
                self.note_removed(item, unit)
                if item._state_.unit is unit:
                    reverse.of(item).note_removed(self._owner, unit)
                unit.link_changed(self._attribute, self._owner, item, add=False, known=known is True)
            elif getattr(item, reverse.name) is self._owner:
                if self._attribute.cascade_delete:
                    item.delete()
                elif not reverse.is_required:
                    reverse.assign(item, None)
                else:
                    raise ConstraintError(
                        f"{item!r} cannot be removed from {self._owner!r}.{self._attribute.name}: {reverse!r} is "
                        f"required, and cascade_delete is off; delete it, or give it another {reverse.name}"
                    )

    def _knows(self, item: Any) -> bool | None:
        """Tell whether *item* is linked to the owner, as far as either end is loaded; None: nobody knows."""
        if self._items is not None:
            return item in self._items
        other: Collection[Any] = self._attribute.reverse.of(item)
        return None if other._items is None else self._owner in other._items

    def replace(self, values: Any) -> None:
        """Make *values* the items: what ``user.orders = [a, b]`` does."""
        unit = self._changing()
        wanted = dict.fromkeys(self.checked_items(values))
        with_room(unit, wanted)
        for item in [item for item in self if item not in wanted]:
            self.remove(item)
        self.add(wanted)

    def clear(self) -> None:
        """Take every item out of the collection, as `remove` does."""
        self._changing()
        self.remove(list(self))

    def create(self, /, **values: Any) -> T:
        """Create a new object of the target that belongs to the owner: ``user.orders.create(total=5)``."""
        unit = self._changing()
        attribute = self._attribute
        if attribute.reverse.name in values:
            raise TypeError(f"{self!r}.create() sets {attribute.reverse.name} itself")
        item: Any = attribute.target.entity(**values, **{attribute.reverse.name: self._owner})
        joined(unit, item)  # outside of any scope it was built for no session
        created: T = item
        return created

    def __iadd__(self, items: Any) -> Collection[T]:
        self.add(items)
        return self

    def __isub__(self, items: Any) -> Collection[T]:
        self.remove(items)
        return self

    # --- for the unit of work -----------------------------------------------------------------

    @property
    def owner(self) -> Any:
        """The object that the items belong to."""
        return self._owner

    @property
    def attribute(self) -> Any:  # a CollectionAttribute; said, mypy would take the property for a descriptor
        """The `Set` that this is the value of."""
        return self._attribute

    @property
    def known(self) -> list[Any]:
        """The items as far as they are in memory."""
        return list(self._items if self._items is not None else self._added)

    @property
    def changed(self) -> list[Any]:
        """The items that were added or removed since the last commit."""
        return [*self._added, *self._removed]

    def note_added(self, item: Any, unit: Unit) -> None:
        """Take *item* in; the other end of the relation has been told."""
        unit.collection_changing(self, item)
        if item not in self._removed:
            self._added[item] = None
        else:  # it is back
            del self._removed[item]
            if self._items is None:  # ... if it was there at all
                self._added[item] = None
        if self._items is not None:
            self._items[item] = None

    def note_removed(self, item: Any, unit: Unit) -> None:
        """Let *item* go; the other end of the relation has been told."""
        unit.collection_changing(self, item)
        known_new = item in self._added and self._items is not None and self._attribute.link is not None
        self._added.pop(item, None)
        if not known_new:  # it may have been here all along
            self._removed[item] = None
        if self._items is not None:
            self._items.pop(item, None)

    def fill(self, items: Iterable[Any]) -> None:
        """Take what the database has, and merge into it what this session has added and removed."""
        loaded = dict.fromkeys(items)
        if self._attribute.link is not None:  # what was there is certain from now on
            self._removed = {item: None for item in self._removed if item in loaded}
            self._added = {item: None for item in self._added if item not in loaded}
        for item in self._removed:
            loaded.pop(item, None)
        loaded.update(self._added)
        self._items = loaded

    def forget(self, keeping: Iterable[Any] | None = None) -> None:
        """Load the items again when they are needed; of what was added and removed only *keeping* (None: all) stays."""
        self._items = None
        if keeping is not None:
            kept = set(keeping)
            self._added = {item: None for item in self._added if item in kept}
            self._removed = {item: None for item in self._removed if item in kept}

    def empty(self) -> None:
        """Let go of everything: the scope was strict, and is over."""
        self._items = None
        self.settle()

    def place_of(self, item: Any) -> tuple[bool, bool, bool]:
        """Return whether *item* is among the items, those added, and those removed; `put_back` takes it."""
        return self._items is not None and item in self._items, item in self._added, item in self._removed

    def put_back(self, item: Any, place: tuple[bool, bool, bool]) -> None:
        """Let *item* be where it was when `place_of` was asked."""
        for held, was_in in zip((self._items, self._added, self._removed), place, strict=True):
            if held is None:
                continue
            if was_in:
                held[item] = None
            else:
                held.pop(item, None)

    def contents(self) -> tuple[dict[T, None] | None, dict[T, None], dict[T, None]]:
        """Return copies of the items, if they are loaded, what was added, and what was removed; see `put_back_all`."""
        return None if self._items is None else self._items.copy(), self._added.copy(), self._removed.copy()

    def reached(self) -> Iterator[Any]:
        """Return what the owner leads to: the items, and what was removed of what is saved, since it is changed too."""
        removed: dict[Any, None] = self._removed
        return chain(self._items or (), self._added, [item for item in removed if item._state_.has_row])

    def put_back_all(self, contents: tuple[dict[T, None] | None, dict[T, None], dict[T, None]]) -> None:
        """Be as when `contents` was asked."""
        self._items, self._added, self._removed = contents

    def settle(self) -> None:
        """Forget what was added and removed: it is committed."""
        self._added.clear()
        self._removed.clear()

    def restore(self) -> None:
        """Undo what was added and removed: it was rolled back, and the rows of all objects are as they were.

        An owner that is in no database any more keeps what the program gave it, as far as that agrees.
        """
        if self._owner._state_.status is Status.TRANSIENT:
            given = {**(self._items or {}), **self._added}
            name = self._attribute.reverse.name
            is_linked = self._attribute.link is not None
            self._items = {i: None for i in given if is_linked or i.__dict__.get(name) is self._owner}
        elif self._items is not None:
            for item in self._added:
                self._items.pop(item, None)
            self._items.update(self._removed)
            if self._attribute.link is None:
                # Who came or went before this collection was in memory told nobody; the references know.
                key, key_in = self._owner._key_, self._attribute.reverse.key_in
                touched: dict[Any, None] = dict.fromkeys((*self._items, *self._added))
                keys = {i: key_in(i._row_) for i in touched if i._state_.status is not Status.TRANSIENT}
                self._items = {item: None for item, its in keys.items() if key is not None and its == key}
                if any(its is NOT_LOADED and item._state_.is_persistent for item, its in keys.items()):
                    self._items = None  # nobody knows of one that was expired
        self.settle()
