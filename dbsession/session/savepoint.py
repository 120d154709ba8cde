"""What an inner scope needs to be undone: the objects as they were before it touched them.

The journal undoes a whole transaction, and knows objects as they were at the last commit. An inner
scope must go back to where it was entered, where objects may have unsaved changes of the outer one.
So the first change that it makes to an object keeps the object as it is: state, row, changes, values.
What is never touched is never looked at: entering and leaving cost nothing beside that.

In the database the savepoint is a `Mark` of the transaction. It is set with the first statement of
the scope that could need it. Unsaved changes of the outer scope go before it where they can; where
the inner scope has changed the same objects, they go behind it, are kept like the inner scope's own,
and are unsaved again after a failure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from dbsession.errors import InvalidRequestError
from dbsession.model.attributes import ValueAttribute
from dbsession.model.collections import Collection
from dbsession.model.entity import EntityBase
from dbsession.model.mapping import LinkTable, Mapping
from dbsession.model.state import NOT_LOADED, UNSET, State, Status, set_changes, set_row, set_state
from dbsession.model.tracked import Holder, plain, same, track
from dbsession.session.changes import row_seen, unsaved
from dbsession.session.identity_map import IdentityMap, ObjectSet
from dbsession.session.journal import empty
from dbsession.session.marks import Mark
from dbsession.session.ordering import Pending, frees_values

if TYPE_CHECKING:
    from dbsession.session.unit_of_work import UnitOfWork

__all__ = ["Layer", "LinkChange", "Savepoint", "layers", "mark_of"]

_NO_ROOM = object()
_NOT_NOTED = object()


class _Kept(NamedTuple):
    """An object as it was."""

    state: State
    row: tuple[Any, ...]
    changes: dict[str, Any] | None
    values: dict[str, Any]
    trees: dict[str, Any]  # plain copies of the values that can be changed in place
    key: Any  # in the identity map; None: it is not there

    @property
    def is_pending(self) -> bool:
        """Whether it had unsaved changes."""
        return self.state.is_new or self.state.has_changes


class LinkChange(NamedTuple):
    """A pair of a many-to-many relation as it was among the unsaved ones: *add* None means that it was not."""

    link: LinkTable
    pair: tuple[Any, Any]
    add: bool | None
    is_known: bool


class Savepoint:
    """One inner scope in one database; *parent* is the one around it, *mark* its place in the transaction."""

    __slots__ = ("_back_references", "_collections", "_kept", "_links", "_loaded", "_made", "_unit", "mark", "parent")

    def __init__(self, unit: UnitOfWork, parent: Savepoint | None, mark: Mark) -> None:
        self._unit = unit
        self.parent = parent
        self.mark = mark
        self._kept: dict[EntityBase, _Kept] = {}
        self._made: dict[EntityBase, None] = {}
        self._loaded = ObjectSet()
        # What happened to collections and links, to be undone from the last to the first.
        self._collections: list[tuple[Collection[Any], Any, Any]] = []
        self._links: list[LinkChange | tuple[Any, Any]] = []
        self._back_references: dict[tuple[EntityBase, str], Any] = {}

    # --- what the scope does --------------------------------------------------------------------

    def require_writable(self) -> None:
        """Raise if the scope has promised to change nothing; what a flush changes follows from the outer one's work."""
        if self.mark.read_only and not self._unit.is_flushing:
            raise InvalidRequestError(
                "this db_session is read_only=True, and cannot change anything; change it in the outer one, or leave "
                "read_only out"
            )

    def keep(self, obj: EntityBase) -> None:
        """Keep what *obj* is, before the first change that the scope makes to it.

        Raises:
            InvalidRequestError: the scope is read-only.
        """
        if obj not in self._kept and obj not in self._made:
            self.require_writable()
            self._kept[obj] = _keep(obj, self._unit.identity)

    def keep_all(self, objects: Iterable[EntityBase]) -> list[EntityBase]:
        """Keep *objects*, which are about to be saved or loaded again, and return those that were not kept yet."""
        new = [obj for obj in objects if obj not in self._kept and obj not in self._made]
        for obj in new:
            kept = self._kept[obj] = _keep(obj, self._unit.identity)
            self._undo_back_references(obj, kept.values)
        return new

    def _undo_back_references(self, obj: EntityBase, values: dict[str, Any]) -> None:
        """Let *values* of *obj* have the back references from before the scopes within this one changed them."""
        each = self._unit.savepoint
        for scope in each._up_to(self) if each is not self and each is not None else ():
            if not scope._back_references:
                continue
            for attribute in obj._mapping_.reference_attributes:
                before = scope._back_references.get((obj, attribute.name), _NOT_NOTED)
                if before is UNSET:
                    values.pop(attribute.name, None)
                elif before is not _NOT_NOTED:
                    values[attribute.name] = before

    def made(self, obj: EntityBase) -> None:
        """Note that *obj* was constructed in the scope."""
        self.require_writable()
        self._made[obj] = None

    def loaded(self, objects: Iterable[EntityBase]) -> None:
        """Note objects that were not known before: their rows may show what the scope, or one around it, wrote."""
        writer = self._innermost_that_wrote()
        if writer is not None:
            writer._loaded.update(objects)

    def let_go(self, objects: Iterable[EntityBase]) -> None:
        """Hold *objects*, as far as they were only loaded, no longer: nobody else may."""
        for each in self._up_to(None):
            each._loaded.let_go(objects)

    def merging(self, obj: EntityBase) -> None:
        """Keep *obj*, which is about to take what the scope, or one around it, may have written."""
        writer = self._innermost_that_wrote()
        if writer is not None and not any(obj in each._loaded or each.has_touched(obj) for each in self._up_to(writer)):
            writer.keep_all((obj,))

    def _innermost_that_wrote(self) -> Savepoint | None:
        return next((each for each in self._up_to(None) if each.mark.wrote), None)

    def _up_to(self, last: Savepoint | None) -> Iterator[Savepoint]:
        """Yield the scope and those around it, up to *last*."""
        each: Savepoint | None = self
        while each is not None:
            yield each
            each = None if each is last else each.parent

    def collection_changing(self, collection: Collection[Any], item: EntityBase) -> None:
        """Note where *item* is in *collection* before it comes or goes."""
        self._collections.append((collection, item, collection.place_of(item)))

    def filling(self, collection: Collection[Any]) -> None:
        """Note a collection that is about to be loaded, and may show what the scope has changed, or to be forgotten."""
        self._collections.append((collection, _NO_ROOM, collection.contents()))

    def back_reference_changing(self, obj: EntityBase, name: str) -> None:
        """Note what a one-to-one attribute without a column has before it changes."""
        self._back_references.setdefault((obj, name), obj.__dict__.get(name, UNSET))

    def link_changing(self, change: LinkChange) -> None:
        """Note a link as it is before it changes."""
        self._links.append(change)

    def links_taken(self, links: dict[LinkTable, dict[tuple[Any, Any], bool]], known: set[Any]) -> None:
        """Note the unsaved *links*, which are about to be sent."""
        self._links.append((links, known))

    # --- what was unsaved when the scope was entered ---------------------------------------------

    def has_touched(self, obj: EntityBase) -> bool:
        """Tell whether the scope has changed or made *obj*."""
        return obj in self._kept or obj in self._made

    def has_changed_unsaved(self, obj: EntityBase) -> bool:
        """Tell whether *obj* had unsaved changes when the scope changed it."""
        kept = self._kept.get(obj)
        return kept is not None and kept.is_pending

    # --- its end --------------------------------------------------------------------------------

    def merge(self) -> None:
        """Leave everything to the scope around this one, which is an inner one too."""
        parent = self.parent
        if parent is None:
            return
        for obj, kept in self._kept.items():
            if obj not in parent._made:
                parent._kept.setdefault(obj, kept)
        parent._made.update(self._made)
        parent._loaded.merge(self._loaded)
        parent._collections += self._collections
        parent._links += self._links
        for place, value in self._back_references.items():
            parent._back_references.setdefault(place, value)

    def restore(self) -> None:
        """Put everything back as it was when the scope was entered."""
        unit = self._unit
        for obj in (*self._kept, *self._made):
            unit.forget_unsaved(obj)
            key = obj._key_
            if key is not None:
                unit.identity.remove(obj, key)
        for obj in self._made:
            unit.journal.undo_new(obj)
        for obj, kept in self._kept.items():
            self._restore(obj, kept)
        for obj in (*unit.dirty, *unit.deleted) if self._made else ():  # whose keys new ones had taken over
            unit.identity.of(obj._mapping_).setdefault(obj._key_, obj)
        for obj in self._loaded:
            if obj._state_.status is Status.CLEAN:  # else another object has its key
                empty(obj, unit.identity)
        for collection, item, before in reversed(self._collections):
            if collection.owner in self._made:
                collection.restore()
            elif item is _NO_ROOM:
                collection.put_back_all(before)
            else:
                collection.put_back(item, before)
        for (obj, name), value in self._back_references.items():
            if value is UNSET:
                obj.__dict__.pop(name, None)
            else:
                obj.__dict__[name] = value
        for change in reversed(self._links):
            if isinstance(change, LinkChange):
                self._restore_link(change)
            else:
                unit.links, unit.known_links = change

    def _restore_link(self, change: LinkChange) -> None:
        unit = self._unit
        pairs = unit.links.setdefault(change.link, {})
        if change.add is None:
            pairs.pop(change.pair, None)
        else:
            pairs[change.pair] = change.add
        if not pairs:
            del unit.links[change.link]
        known = (change.link, change.pair)
        if change.is_known:
            unit.known_links.add(known)
        else:
            unit.known_links.discard(known)

    def _restore(self, obj: EntityBase, kept: _Kept) -> None:
        unit = self._unit
        mapping = obj._mapping_
        row = kept.row + (NOT_LOADED,) * (len(mapping.columns) - len(kept.row))  # it may have turned out a subclass
        read = _read_since(obj, kept)
        set_row(obj, row)
        set_state(obj, kept.state)
        if kept.changes is not None:
            set_changes(obj, kept.changes)
            unit.moves_keys = unit.moves_keys or any(part.name in kept.changes for part in mapping.key)
        values = obj.__dict__
        collections = {name: value for name, value in values.items() if isinstance(value, Collection)}
        values.clear()
        if not kept.state.is_new:  # else they take it for a saved one
            values.update(collections)
        values.update(read)
        values.update(kept.values)
        for attribute in _tracked(mapping):
            if attribute.name in kept.trees:
                values[attribute.name] = _tree(obj, attribute, values[attribute.name], kept.trees[attribute.name])
        if kept.key is not None:
            other = unit.identity.find(mapping, kept.key)
            if other is not None and other in self._loaded:
                set_state(other, State(Status.DETACHED, None, "its row was rolled back"))
            unit.identity.add(obj, kept.key)
            if kept.state.is_persistent and mapping.is_hollow(row_seen(obj, unsaved(obj))):
                unit.identity.hollow_of(mapping)[kept.key] = obj
        unit.take_unsaved(obj)


Layer: TypeAlias = Pending | Mark


def layers(unit: UnitOfWork, pending: Pending, *, has_links: bool) -> tuple[list[Layer], set[EntityBase]]:
    """Return what a flush has to send, with the marks of inner scopes that have to be set on the way.

    What only outer scopes have changed goes before the mark of an inner one. It goes behind it, and is
    kept by the scope, where it cannot be told apart: the same object was changed in both, a value that
    one gives up is taken in the other, links; or the mark is set already. The second value is the set
    of these objects: if one of them is refused, it is not the inner scope that has failed.
    """
    innermost = unit.savepoint
    if innermost is None:
        return [pending], set()
    objects = [obj for kind in pending for obj in kind]
    chain: list[Savepoint] = []
    savepoint: Savepoint | None = innermost
    while savepoint is not None and not savepoint.mark.is_set:
        chain.insert(0, savepoint)
        savepoint = savepoint.parent
    by_depth = [Pending([], [], []) for _ in range(len(chain) + 1)]
    for kind in range(len(pending)):
        for obj in pending[kind]:
            depth = max((place for place, each in enumerate(chain, 1) if each.has_touched(obj)), default=0)
            by_depth[depth][kind].append(obj)
    is_mixed = has_links or any(each.has_changed_unsaved(obj) for each in chain for obj in objects)
    if chain and (is_mixed or any(map(frees_values, by_depth[1:])) or _follow_deleted(by_depth)):
        foreign = innermost.keep_all(objects)
        innermost.mark.wrote = True
        return [*[each.mark for each in chain], pending], set(foreign)
    # The marks up to here are set, so what these scopes have not changed themselves is undone with them.
    foreign = savepoint.keep_all([obj for kind in by_depth[0] for obj in kind]) if savepoint is not None else []
    for place, changed in enumerate(by_depth):
        owner = chain[place - 1] if place else savepoint
        if owner is not None:
            owner.mark.wrote = owner.mark.wrote or bool(changed) or has_links
    found: list[Layer] = [by_depth[0]]
    for each, changed in zip(chain, by_depth[1:], strict=True):
        found += [each.mark, changed]
    while isinstance(found[-1], Mark) or not found[-1]:  # what has changed nothing needs no savepoint yet
        found.pop()
        if not found:
            return [pending], set()
    return found, set(foreign)


def mark_of(unit: UnitOfWork, obj: EntityBase | None = None) -> Mark | None:
    """Return the mark of the innermost scope, or of that which has changed *obj*; None: that is the outermost one."""
    savepoint = unit.savepoint
    while savepoint is not None and obj is not None and not savepoint.has_touched(obj):
        savepoint = savepoint.parent
    return None if savepoint is None else savepoint.mark


def _follow_deleted(by_depth: list[Pending]) -> bool:
    """Tell whether an inner scope has found objects that refer to what an outer one deletes, and follow it."""
    deleted: set[tuple[Mapping, Any]] = set()
    for pending in by_depth:
        for obj in (*pending.dirty, *pending.deleted) if deleted else ():
            for attribute in obj._mapping_.reference_attributes:
                if not attribute.is_virtual and (attribute.target.root, attribute.key_in(obj._row_)) in deleted:
                    return True
        deleted.update([(obj._mapping_.root, obj._key_) for obj in pending.deleted])
    return False


def _tracked(mapping: Mapping) -> tuple[ValueAttribute[Any], ...]:
    """Return the attributes whose values can be changed in place."""
    found: tuple[ValueAttribute[Any], ...] | None = mapping.sql.get("tracked")
    if found is None:
        found = mapping.sql["tracked"] = tuple([each for each in mapping.value_attributes if each.is_tracked])
    return found


def _keep(obj: EntityBase, identity: IdentityMap) -> _Kept:
    state = obj._state_
    values = obj.__dict__.copy()
    mapping = obj._mapping_
    trees = {each.name: plain(values[each.name]) for each in _tracked(mapping) if values.get(each.name) is not None}
    changes = obj._changes_.copy() if state.has_changes else None
    key = obj._key_
    if key is not None and identity.find(mapping, key) is not obj:  # a new object has taken over the key
        key = None
    return _Kept(state, obj._row_, changes, values, trees, key)


def _read_since(obj: EntityBase, kept: _Kept) -> dict[str, Any]:
    """Return what was read of *obj* since then, and never changed: later writes may rest on it, so it stays read."""
    if kept.state.is_new or not obj._state_.may_change:
        return {}
    known = dict(enumerate(kept.row))
    return {
        name: value
        for name, value in obj.__dict__.items()
        if name not in kept.values
        and name not in unsaved(obj)
        and (attribute := obj._mapping_.attributes.get(name)) is not None
        and not attribute.is_virtual
        and all(known.get(column.position, NOT_LOADED) == obj._row_[column.position] for column in attribute.columns)
    }


def _tree(obj: EntityBase, attribute: ValueAttribute[Any], tree: Any, before: Any) -> Any:
    """Return the value that *attribute* had, a tree of dicts and lists: the same one if nothing in it has changed."""
    if same(plain(tree), before):
        holder: Holder | None = getattr(tree, "_holder", None)
        if holder is not None:
            holder.is_free = False
            return tree
    return track(before, Holder(obj, attribute, attribute.kind.coerce))
