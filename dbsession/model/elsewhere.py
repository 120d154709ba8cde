"""Names that other libraries have for what is done in another way here: whoever writes one is told how.

They stand in base classes, and are no data descriptors, so what users declare under such a name is theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NoReturn, TypeVar

__all__ = [
    "COLLECTION",
    "DATABASE",
    "ENTITY",
    "FACTORY",
    "QUERY",
    "RESULT",
    "SESSION",
    "CollectionNames",
    "DatabaseNames",
    "EntityNames",
    "FactoryNames",
    "QueryNames",
    "ResultNames",
    "SessionNames",
]

T = TypeVar("T")

_SELECT: Final = "select() is the query: {owner}.select(...), or session.query({owner})"
_PREFETCH: Final = "prefetch(User.orders) loads ahead, and without it the first access loads for all objects at once"
_JOIN: Final = 'a condition joins what it follows: filter(Order.user.name == "x"), or loop over both in select(...)'
_GROUP: Final = "what stands beside an aggregate is grouped by: select((u.city, count(u)) for u in User)"
_VALUES: Final = "a generator expression asks for values: select((u.name, u.age) for u in User)"
_LAZY: Final = "declare an attribute with lazy=True, and load it ahead with prefetch(User.bio)"

ENTITY: Final = {
    **dict.fromkeys(("query", "objects", "all", "filter", "filter_by", "where"), _SELECT),
    "find": "get(...) returns the only object that fits, or None, and {owner}[key] the one with that key",
    "get_or_none": "get(...) returns the only object that fits, or None",
    "create": "{owner}(...) makes an object, which its session saves",
    "get_or_create": "write {owner}.get(name=...) or {owner}(name=...)",
    "session": "the current session is what `with db_session as session:` gives",
}
"""Of entity classes; ``{owner}`` stands for the name of the class."""

QUERY: Final = {
    "one_or_none": "get() returns the only result, or None",
    **dict.fromkeys(
        ("scalar", "scalar_one", "scalar_one_or_none"), "one value is asked for by select(u.name for u in User).get()"
    ),
    **dict.fromkeys(("scalars", "values_list", "with_entities", "add_columns"), _VALUES),
    **dict.fromkeys(("join", "outerjoin", "select_from"), _JOIN),
    **dict.fromkeys(("options", "select_related", "prefetch_related"), _PREFETCH),
    **dict.fromkeys(("only", "defer", "load_only"), _LAZY),
    **dict.fromkeys(("group_by", "having", "annotate", "aggregate"), _GROUP),
    "with_for_update": "for_update() locks the rows",
    "select_for_update": "for_update() locks the rows",
    "offset": "limit(10, offset=20), or query[20:30]",
    "exclude": "turn the condition round: filter(User.age <= 18), or filter(lambda user: not (...))",
    "last": "turn the order round: order_by(desc(User.name)).first()",
    **dict.fromkeys(("yield_per", "iterator"), "stream(batch=1000) iterates over results that memory would not hold"),
    **dict.fromkeys(("subquery", "scalar_subquery", "cte"), "a query may stand in the generator of another one"),
    "populate_existing": "session.refresh(obj) loads again, and for_update() gives the values of the locked rows",
}

SESSION: Final = {
    "begin": (
        "a transaction begins with the first statement that needs one, and commit() and rollback() end it; "
        "`with Session(db) as session:` commits when its block ends, and begin_nested() is a savepoint"
    ),
    **dict.fromkeys(
        ("scalars", "scalar", "exec", "select"),
        "query() asks for objects and for values: session.query(u.name for u in User).all(), .first(), .get()",
    ),
    "get_one": "session.query(User).filter_by(id=7).one(); session.get(User, 7) returns None if there is no such row",
    **dict.fromkeys(
        ("expunge", "expunge_all"),
        "copy.copy(obj) is in no session, and what was loaded stays readable after the session",
    ),
    **dict.fromkeys(
        ("bulk_save_objects", "bulk_insert_mappings", "bulk_insert", "bulk_create"),
        "add_all([User(...), ...]) is sent in one batch",
    ),
    **dict.fromkeys(
        ("bulk_update_mappings", "bulk_update", "update"),
        "assign to the objects, which is noted by itself, or change rows by one statement: "
        "session.query(User).update(...)",
    ),
    "save": "add(obj) takes a new object, changes are noted by themselves, and commit() saves both",
    **dict.fromkeys(("remove", "invalidate", "reset", "close_all"), "close() ends the session"),
    **dict.fromkeys(("connection", "cursor", "connect"), "execute(sql, params) runs SQL in the session's transaction"),
    "is_modified": "ask whether the object is in session.dirty",
    "autoflush": "Session(db, autoflush=False), or `with session.no_autoflush():`",
}

FACTORY: Final = {
    "begin": "`with Session() as session:` commits when its block ends",
    "configure": "options are given to sessionmaker(...), or to a call of it",
    **dict.fromkeys(("remove", "close_all"), "each session is ended by its own close(), or by its `with` block"),
}

COLLECTION: Final = {
    **dict.fromkeys(("append", "extend", "insert", "update"), "add(...) takes one object, or several"),
    **dict.fromkeys(("discard", "pop"), "remove(...) takes one object, or several"),
    "all": "it can be iterated over, and list(...) has its items; select() is a query for them",
    **dict.fromkeys(
        ("filter", "filter_by", "where", "order_by", "first", "get", "exists", "limit"),
        "select(Order.total > 5) is a query for its items",
    ),
}

RESULT: Final[dict[str, str]] = dict.fromkeys(
    (
        "fetchall",
        "fetchone",
        "fetchmany",
        "all",
        "first",
        "one",
        "one_or_none",
        "scalar",
        "scalar_one",
        "scalars",
        "mappings",
    ),
    "rows is a list of tuples, and columns has their names: result.rows[0][0]",
)

DATABASE: Final = {
    **dict.fromkeys(("session", "Session"), "write Session(db), or `with db_session:`"),
    **dict.fromkeys(("commit", "rollback", "flush"), "it is done by the scope, or by a session: session.{name}()"),
    **dict.fromkeys(("query", "add"), "objects are in a scope, or in a session: Session(db).{name}(...)"),
    **dict.fromkeys(("create_all", "metadata"), "generate_mapping(create_tables=True) makes the tables"),
    **dict.fromkeys(("Model", "Base"), "an entity is a class User(db.Entity)"),
    "disconnect": "connections are given back by themselves; close() closes all of them",
    "get_connection": "execute(sql, params) runs SQL in the transaction of the scope",
}


class _Elsewhere:
    """Stands where a name would be: whoever asks for it learns that there is none, and what to write instead.

    A `__getattr__` would do the same, and make Python slower with every other attribute: ``User._mapping_`` takes
    12 ns, and would take 51.
    """

    def __init__(self, name: str, way: str) -> None:
        self._name = name
        self._way = way

    def __get__(self, obj: Any, owner: type) -> NoReturn:
        asked: Any = owner if obj is None else obj
        is_class = isinstance(asked, type)
        label = asked.__name__ if is_class else type(asked).__name__
        what = f"type object {label!r}" if is_class else f"{label!r} object"
        way = self._way.replace("{owner}", label).replace("{name}", self._name)
        raise AttributeError(f"{what} has no attribute {self._name!r}: {way}", name=self._name, obj=asked)


def _refusing(names: Mapping[str, str]) -> Callable[[type[T]], type[T]]:
    """Let a class say of *names* what to write instead."""

    def refuse(cls: type[T]) -> type[T]:
        for name, way in names.items():
            setattr(cls, name, _Elsewhere(name, way))
        return cls

    return refuse


@_refusing(ENTITY)
class EntityNames:
    """A base of the class of entities."""

    __slots__ = ()


@_refusing(QUERY)
class QueryNames:
    """A base of queries."""

    __slots__ = ()

    def __dir__(self) -> Iterable[str]:
        return [name for name in object.__dir__(self) if name not in QUERY]


@_refusing(COLLECTION)
class CollectionNames:
    """A base of collections."""

    __slots__ = ()

    def __dir__(self) -> Iterable[str]:
        return [name for name in object.__dir__(self) if name not in COLLECTION]


@_refusing(SESSION)
class SessionNames:
    """A base of sessions."""

    __slots__ = ()

    def __dir__(self) -> Iterable[str]:
        return [name for name in object.__dir__(self) if name not in SESSION]


@_refusing(FACTORY)
class FactoryNames:
    """A base of `sessionmaker`."""

    __slots__ = ()

    def __dir__(self) -> Iterable[str]:
        return [name for name in object.__dir__(self) if name not in FACTORY]


@_refusing(RESULT)
class ResultNames:
    """A base of what SQL answers."""

    __slots__ = ()

    def __dir__(self) -> Iterable[str]:
        return [name for name in object.__dir__(self) if name not in RESULT]


@_refusing(DATABASE)
class DatabaseNames:
    """A base of databases."""

    __slots__ = ()

    def __dir__(self) -> Iterable[str]:
        return [name for name in object.__dir__(self) if name not in DATABASE]
