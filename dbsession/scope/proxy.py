"""Proxies: an entity and a key, which stand for the object of that row in whatever scope is current.

A proxy holds no session and no object, so that it may be kept, sent to other threads and processes, and used in
many scopes. Nothing is looked up before the object is needed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, overload

from dbsession.errors import InvalidRequestError, NoScopeError, ObjectNotFound, OperationWithDeletedObjectError
from dbsession.model.entity import EntityBase
from dbsession.model.json_values import as_json, key_from_json
from dbsession.model.mapping import Mapping, mapping_of
from dbsession.model.registration import suggest
from dbsession.model.state import State, Status, set_row, set_state
from dbsession.scope import stack
from dbsession.session.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["EntityProxy", "make_proxy"]

E = TypeVar("E", bound=EntityBase)
F = TypeVar("F", bound=EntityBase)

_OWN = frozenset({"exists", "from_key", "get", "key"})


class EntityProxy(Generic[E]):
    """Stand for the object of *entity* with the primary key *key*, in whatever scope is current.

    Reading and assigning an attribute, and calling a method, look the object up and do it there:
    ``proxy.name``, ``proxy.count += 1``, ``proxy.delete()``. Attributes called ``get``, ``exists``, ``key`` and
    ``from_key``, and names that begin with two underscores, or begin and end with one, are reached through
    ``proxy.get()``.

    Proxies are equal if they stand for the same row: by the key, as the database has it, and by the table, so that
    a proxy of a base class equals that of a subclass. A proxy equals no object: equal things have equal hashes,
    and the hash of an object cannot be its key, which it may not have yet. Compare ``proxy.get() is obj``.

    Raises:
        TypeError: *key* does not fit the key of *entity*.
        MappingError: ``generate_mapping()`` has not been called.
    """

    __slots__ = ("__weakref__", "_key_", "_mapping_")

    _key_: Any  # as rows have it
    _mapping_: Mapping

    def __init__(self, entity: type[E], key: Any) -> None:
        if not (isinstance(entity, type) and issubclass(entity, EntityBase)):
            raise TypeError(f"EntityProxy(User, 7) takes an entity and a key, not {entity!r:.80}")
        mapping = mapping_of(entity)
        _set_mapping(self, mapping)
        _set_key(self, mapping.entity._key_from_(key))

    @staticmethod
    def from_key(entity: type[F], key: Any) -> EntityProxy[F]:
        """Return the proxy whose `key` gave *key*, which may have been JSON text in between.

        Raises:
            TypeError, ValueError: *key* does not fit the key of *entity*.
        """
        return EntityProxy(entity, key_from_json(mapping_of(entity), key))

    def get(self, session: Session | None = None) -> E:
        """Return the object in the current scope: from its identity map, without any SQL, or from the database.

        *session*: return that of this session instead, which need not be the current scope.

        Raises:
            ObjectNotFound: there is no such row, or the object was deleted in this scope.
            NoScopeError: there is no db_session here, and no *session* is given.
        """
        found: E = self._resolved_("resolve {}", session)
        return found

    def exists(self, session: Session | None = None) -> bool:
        """Tell whether the row exists, as the current scope sees it: False as soon as it has deleted the object.

        Sends nothing if the scope has the object; otherwise loads it, in one round trip, so that `get` sends nothing.
        *session*: ask that one instead.

        Raises:
            NoScopeError: there is no db_session here, and no *session* is given.
        """
        return self._found_("ask whether there is {}", session) is not None

    def key(self) -> Any:
        """Return the key in the types of JSON, for `from_key`: a str, number or bool, or a list of such."""
        return as_json(self._mapping_.shown_key(self._key_))

    def _found_(self, doing: str, session: Session | None) -> Any:
        if session is not None:
            return session.get(self._mapping_.entity, self._mapping_.shown_key(self._key_))
        if stack.current_frame() is None:
            raise NoScopeError(
                f"Cannot {doing.format(repr(self))}: {stack.no_scope()}, or give the session: proxy.get(session)"
            )
        return self._mapping_.gateway.get(self._mapping_, self._key_)

    def _resolved_(self, doing: str, session: Session | None = None) -> Any:
        found = self._found_(doing, session)
        if found is not None:
            return found
        mapping = self._mapping_
        why = f"{mapping.describe_key(self._key_)} does not exist: its row was deleted or never saved"
        if mapping.root is not mapping:
            why += f", or is no {mapping.name}"
        raise ObjectNotFound(
            f"Cannot {doing.format(repr(self))}: {why}; ask proxy.exists() first",
            entity=mapping.entity,
            key=mapping.shown_key(self._key_),
        )

    def __proxy_target__(self) -> EntityBase:
        """Return what a query or a relation is to take for this: the object, if it is in memory, or what has its key.

        Sends nothing, and needs no scope. The scope does not get to know an object by it: there may be no such row.
        """
        mapping, key = self._mapping_, self._key_
        known = None if stack.current_frame() is None else mapping.gateway.unit().find(mapping, key)
        if known is not None:
            return known
        stand_in: EntityBase = object.__new__(mapping.entity)
        set_row(stand_in, mapping.hollow_row(key))
        set_state(stand_in, _NOWHERE)
        return stand_in

    # --- what is done with the object ---------------------------------------------------------------

    if not TYPE_CHECKING:  # for which there is the one below

        def __getattr__(self, name: str) -> Any:
            self._require_forwarded_(name, "read")
            return getattr(self._resolved_(f"read {{}}.{name}"), name)

    else:

        def __getattr__(self, name: str) -> Any: ...

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _OWN:
            raise AttributeError(
                f"{name} is a method of proxies: write proxy.get().{name} = ... for an attribute", name=name, obj=self
            )
        self._require_forwarded_(name, "assign")
        setattr(self._resolved_(f"assign {{}}.{name}"), name, value)

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{name} cannot be deleted from {self!r}; assign None", name=name, obj=self)

    def _require_forwarded_(self, name: str, doing: str) -> None:
        """Raise unless objects may have *name*; so that a wrong name sends nothing, and is an error without a scope."""
        mapping = self._mapping_
        if name in mapping.entity._attributes_:
            return
        is_ours = name.startswith("__") or (name.startswith("_") and name.endswith("_"))
        for member in () if is_ours else mapping.family():
            for base in member.entity.__mro__:  # and not in the verbs of the class
                if name in vars(base) or "__getattr__" in vars(base):
                    return
        names = [known for member in mapping.family() for known in member.entity._attributes_]
        guess = "" if is_ours else suggest(name, names)
        raise AttributeError(f"cannot {doing} {self!r}.{name}: there is no such attribute{guess}", name=name, obj=self)

    def __dir__(self) -> Iterable[str]:
        return sorted({*object.__dir__(self), *dir(self._mapping_.entity)})

    # --- as a value -----------------------------------------------------------------------------------

    def __repr__(self) -> str:
        return f"<EntityProxy {self._mapping_.describe_key(self._key_)}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, EntityProxy):
            return NotImplemented
        return self._mapping_.root is other._mapping_.root and bool(self._key_ == other._key_)

    def __hash__(self) -> int:
        return hash((self._mapping_.root, self._key_))

    def __copy__(self) -> EntityProxy[E]:
        return self

    def __deepcopy__(self, memo: Any) -> EntityProxy[E]:
        return self

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return type(self), (self._mapping_.entity, self._mapping_.shown_key(self._key_))


_set_key: Final[Callable[[Any, Any], None]] = EntityProxy.__dict__["_key_"].__set__
_set_mapping: Final[Callable[[Any, Mapping], None]] = EntityProxy.__dict__["_mapping_"].__set__
_NOWHERE: Final = State(Status.DETACHED, None, "it stands for a proxy, in a query for instance")


@overload
def make_proxy(obj: EntityProxy[E]) -> EntityProxy[E]: ...
@overload
def make_proxy(obj: E) -> EntityProxy[E]: ...
def make_proxy(obj: Any) -> Any:
    """Return the proxy of *obj*, which may be of a scope that has ended; a proxy is its own.

    An object that is not saved yet is saved by it: it is flushed, with what it refers to, to have its key. So is one
    whose key has an unsaved change.

    Raises:
        OperationWithDeletedObjectError: the object was deleted in its session.
        InvalidRequestError: it was never saved, and its scope has ended.
        TypeError: it is neither an object of an entity nor a proxy.
    """
    if isinstance(obj, EntityProxy):
        return obj
    if not isinstance(obj, EntityBase):
        takes = f"a key stands alone: write EntityProxy({obj.__name__}, key)" if isinstance(obj, type) else "no object"
        raise TypeError(f"make_proxy() takes an object of an entity, not {obj!r:.80}: that is {takes}")
    return EntityProxy(type(obj), _key_of(obj))


def _key_of(obj: EntityBase) -> Any:
    """Return the key of *obj*, which is saved if its row does not have that key yet."""
    state = obj._state_
    if state.status in (Status.MARKED_FOR_DELETION, Status.DELETED):
        raise OperationWithDeletedObjectError(
            f"Cannot make a proxy of {obj!r}: it was deleted in this session; rollback() would bring it back"
        )
    if state.status is Status.TRANSIENT:
        raise InvalidRequestError(
            f"Cannot make a proxy of {obj!r}, which was never saved: {state.reason}; save it first"
        )
    if state.is_new or (state.has_changes and any(part.name in obj._changes_ for part in obj._mapping_.key)):
        obj.flush()
    return obj._mapping_.shown_key(obj._key_)
