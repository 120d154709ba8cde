"""How an entity lies in its table: columns, keys, the layout of a row, the SQL made for it.

A `Mapping` is begun when the class is created and completed by ``generate_mapping()`` (see
`mapper`). It also carries the two doors by which entities reach what stands above them: the
`Gateway` to the current unit of work, and the `Catalog` that they are registered in.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from itertools import islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

from dbsession.errors import ERDiagramError, MappingError
from dbsession.model.state import NOT_LOADED

if TYPE_CHECKING:
    from dbsession.backends.base import Dialect
    from dbsession.model.attributes import Attribute, ValueAttribute
    from dbsession.model.collections import CollectionAttribute
    from dbsession.model.declarations import Composite
    from dbsession.model.entity import EntityBase
    from dbsession.model.expressions import Expression
    from dbsession.model.references import ReferenceAttribute
    from dbsession.model.state import Detached, Unit

__all__ = ["Catalog", "Column", "Gateway", "LinkTable", "Mapping", "Selection", "Selector", "mapping_of"]

E = TypeVar("E")
U = TypeVar("U")


class Selection(Protocol[E]):
    """A query as the model sees it; `dbsession.query.Query` is the one that there is.

    A value: nothing is sent until it is iterated, sliced, counted or fetched.
    """

    def filter(self, /, *conditions: Any, **values: Any) -> Selection[E]:
        """Keep the objects for which all *conditions* hold and the attributes equal *values*."""
        ...

    def order_by(self, *orderings: Any) -> Selection[E]:
        """Order by attributes or expressions; `desc` turns one round."""
        ...

    def limit(self, limit: int | None, offset: int = 0) -> Selection[E]:
        """Keep *limit* objects at most, leaving out the first *offset*."""
        ...

    def for_update(self, *, nowait: bool = False, skip_locked: bool = False) -> Selection[E]:
        """Lock the rows until the transaction ends; the objects take the values of the locked rows."""
        ...

    def where(self, /, *conditions: Any, **values: Any) -> Selection[E]:
        """Do as `filter`; the parameters of a lambda are loop variables by their names."""
        ...

    def page(self, number: int, pagesize: int = 10) -> Selection[E]:
        """Keep the *number*-th page, counted from 1."""
        ...

    def distinct(self) -> Selection[E]:
        """Let each result come once."""
        ...

    def without_distinct(self) -> Selection[E]:
        """Let results come as often as the loops of Python would give them."""
        ...

    def prefetch(self, *what: type[EntityBase] | Expression[Any]) -> Selection[E]:
        """Load ahead what the objects lead to: entities, or attributes."""
        ...

    def first(self) -> E | None:
        """Return the first object, or None."""
        ...

    def random(self, limit: int) -> list[E]:
        """Return *limit* objects at most, chosen at random."""
        ...

    def get(self) -> E | None:
        """Return the only object, or None; more than one is an error."""
        ...

    def one(self) -> E:
        """Return the only object; none and more than one are errors."""
        ...

    def fetch(self) -> list[E]:
        """Return all objects."""
        ...

    def stream(self, batch: int = 1000) -> Iterator[E]:
        """Iterate over all objects with *batch* of them in memory at a time."""
        ...

    def count(self) -> int:
        """Ask the database how many there are."""
        ...

    def exists(self) -> bool:
        """Ask the database whether there is one."""
        ...

    @overload
    def sum(self, expression: Expression[U | None] | Callable[[E], U | None], *, distinct: bool = False) -> U: ...
    @overload
    def sum(self, expression: str | None = None, *, distinct: bool = False) -> Any: ...
    def sum(self, expression: Any = None, *, distinct: bool = False) -> Any:
        """Ask the database for the sum of *expression*."""
        ...

    def avg(
        self, expression: Expression[Any] | Callable[[E], Any] | str | None = None, *, distinct: bool = False
    ) -> float | None:
        """Ask the database for the mean of *expression*."""
        ...

    @overload
    def min(self, expression: Expression[U | None] | Callable[[E], U | None]) -> U | None: ...
    @overload
    def min(self, expression: str) -> Any: ...
    @overload
    def min(self, expression: None = None) -> E | None: ...
    def min(self, expression: Any = None) -> Any:
        """Ask the database for the smallest *expression*."""
        ...

    @overload
    def max(self, expression: Expression[U | None] | Callable[[E], U | None]) -> U | None: ...
    @overload
    def max(self, expression: str) -> Any: ...
    @overload
    def max(self, expression: None = None) -> E | None: ...
    def max(self, expression: Any = None) -> Any:
        """Ask the database for the largest *expression*."""
        ...

    def group_concat(
        self,
        sep: str = ",",
        distinct: bool = False,
        *,
        expression: Expression[Any] | Callable[[E], Any] | str | None = None,
    ) -> str | None:
        """Ask the database for the texts of *expression* as one text, with *sep* between them."""
        ...

    def get_sql(self) -> str:
        """Return the SQL that fetching would send."""
        ...

    def show(self, width: int | None = None) -> None:
        """Print the objects as a table."""
        ...

    def delete(self, *, bulk: bool = False) -> int:
        """Delete the objects, with cascades and hooks; *bulk*: with one statement and without them."""
        ...

    def update(self, /, *, bump_version: bool = False, **values: Any) -> int:
        """Change the rows of all objects with one UPDATE, without hooks; values may be expressions."""
        ...

    def __iter__(self) -> Iterator[E]: ...

    def __getitem__(self, index: slice) -> list[E]: ...


class Selector(Protocol):
    """Whoever makes queries for objects."""

    def select(self, mapping: Mapping, conditions: tuple[Any, ...], values: dict[str, Any]) -> Selection[Any]:
        """Return the query for the objects of *mapping*."""
        ...

    def select_linked(self, attribute: CollectionAttribute, owner: EntityBase) -> Selection[Any]:
        """Return the query for the objects that *owner* is linked to by a many-to-many *attribute*."""
        ...


class Gateway(Selector, Protocol):
    """What a class verb needs from above: ``User[1]``, ``User(...)``, ``User.select()``."""

    @property
    def database(self) -> Any:
        """The database that the entity is of."""
        ...

    def unit(self) -> Unit:
        """Return the unit of work of the current scope.

        Raises:
            NoScopeError: there is no scope here.
            ScopeOwnershipError: the scope belongs to another thread or task.
        """
        ...

    def unit_for_new(self, values: dict[str, Any]) -> Unit:
        """Return the unit of work for an object that is being constructed with *values*.

        It is that of the current scope. Outside of any it is one without a session: that of the detached objects
        among *values*, or, while a `Session` is open here, a new one.

        Raises:
            NoScopeError: there is neither.
            ScopeOwnershipError: the scope belongs to another thread or task.
        """
        ...

    def make_detached(self) -> Detached:
        """Return a new unit of work without a session, for copies and what comes out of a pickle."""
        ...

    def get(self, mapping: Mapping, key: Any) -> EntityBase | None:
        """Return the object with *key*, from the identity map or the database."""
        ...

    def query(self, selected: Any, values: tuple[Any, ...]) -> Any:
        """Return the query for what *selected* asks for."""
        ...

    def select_by_sql(self, mapping: Mapping, sql: str, params: Any) -> list[Any]:
        """Return the objects of *mapping* whose rows *sql* gives."""
        ...


class Catalog(Protocol):
    """The database that an entity is declared in."""

    entities: dict[str, type[EntityBase]]

    def register(self, entity: type[EntityBase]) -> None:
        """Take in a new entity class.

        Raises:
            MappingError: ``generate_mapping()`` was called already.
            ERDiagramError: another entity has its name.
        """
        ...


class Column:
    """One column of a table, and how its values travel."""

    __slots__ = (
        "attribute",
        "auto",
        "decode",
        "encode",
        "is_key",
        "name",
        "nullable",
        "position",
        "quoted",
        "references",
        "sql_default",
        "sql_type",
    )

    def __init__(self, name: str, quoted: str, attribute: Attribute[Any], sql_type: str) -> None:
        self.name = name
        self.quoted = quoted
        self.attribute = attribute
        self.sql_type = sql_type
        self.encode: Callable[[Any], Any] | None = None
        self.decode: Callable[[Any], Any] | None = None
        self.position = -1
        self.nullable = False
        self.is_key = False
        self.auto = False
        self.sql_default: str | bool | None = None  # True: the database has one, which is not ours to declare
        self.references: Column | None = None

    def __repr__(self) -> str:
        return f"<Column {self.name} {self.sql_type}>"

    def shown(self, raw: Any) -> Any:
        """Return *raw*, a value of this column in a row, as the program has it; a reference goes by its target."""
        column = self
        while column.references is not None:
            column = column.references
        return raw if raw is None or column.decode is None else column.decode(raw)


class LinkTable:
    """The table of a many-to-many relation: pairs of keys.

    `left` is the side whose key columns come first; of the two sides of a symmetric relation there
    is only one, and each pair is stored in both directions.
    """

    def __init__(self, table: str, quoted: str, left: CollectionAttribute, right: CollectionAttribute) -> None:
        self.table = table
        self.quoted = quoted
        self.left = left
        self.right = right
        self.left_columns: tuple[Column, ...] = ()
        self.right_columns: tuple[Column, ...] = ()
        self.sql: dict[Hashable, str] = {}

    @property
    def is_symmetric(self) -> bool:
        """Whether both sides are the same attribute (``friends = Set("User", reverse="friends")``)."""
        return self.left is self.right

    def columns_of(self, side: CollectionAttribute) -> tuple[tuple[Column, ...], tuple[Column, ...]]:
        """Return the columns of the owner and those of the item, as seen from *side*."""
        if side.is_left:
            return self.left_columns, self.right_columns
        return self.right_columns, self.left_columns


class Mapping:
    """How one entity lies in its table."""

    def __init__(self, entity: type[EntityBase], catalog: Catalog, gateway: Gateway) -> None:
        self.entity = entity
        self.name = entity.__name__
        self.catalog = catalog
        self.gateway = gateway
        self.is_complete = False
        # The class as declared
        self.attributes: dict[str, Attribute[Any]] = {}
        self.collections: dict[str, CollectionAttribute] = {}
        self.value_attributes: tuple[ValueAttribute[Any], ...] = ()
        self.reference_attributes: tuple[ReferenceAttribute, ...] = ()
        self.composites: list[tuple[Composite, tuple[Attribute[Any], ...]]] = []
        self.key: tuple[Attribute[Any], ...] = ()
        self.root: Mapping = self
        self.parent: Mapping | None = None
        self.subclasses: list[Mapping] = []
        self.discriminator: Attribute[Any] | None = None
        self.discriminator_value: Any = None
        self.by_discriminator: dict[Any, Mapping] = {}
        self.version: Attribute[Any] | None = None
        # The table, completed by generate_mapping()
        self.dialect: Dialect
        self.table = ""
        self.quoted = ""
        self.rank = 0  # parents of foreign keys have smaller ranks
        self.refers_to_itself = False  # directly or through a circle of tables
        self.columns: tuple[Column, ...] = ()
        self.eager: tuple[Column, ...] = ()
        self.key_columns: tuple[Column, ...] = ()
        self.auto_column: Column | None = None
        self.hooks: frozenset[str] = frozenset()
        self.references_here: list[ReferenceAttribute] = []  # attributes of other entities that refer to this one
        # Rows
        self.template: tuple[Any, ...] = ()
        self.key_of: Callable[[Any], Any] = itemgetter(0)
        self.wide: tuple[Column, ...] = ()  # columns of this entity and its subclasses
        self.sql: dict[Hashable, Any] = {}

    def __repr__(self) -> str:
        return f"<Mapping {self.name}>"

    def member(self, name: str) -> Any:
        """Return the attribute or collection *name*, or None."""
        attribute = self.attributes.get(name)
        return attribute if attribute is not None else self.collections.get(name)

    @property
    def is_polymorphic(self) -> bool:
        """Whether a row of this entity may belong to a subclass."""
        return bool(self.subclasses)

    def family(self) -> Iterator[Mapping]:
        """Yield this mapping and those of all its subclasses."""
        yield self
        for subclass in self.subclasses:
            yield from subclass.family()

    def require_complete(self) -> None:
        """Raise `MappingError` if ``generate_mapping()`` has not been called."""
        if not self.is_complete:
            raise MappingError(
                f"{self.name} has no mapping yet: call db.generate_mapping() (with create_tables=True to make "
                f"the tables) once, after all entities are declared"
            )

    def projection(self, source: Sequence[Column]) -> Callable[[tuple[Any, ...]], tuple[Any, ...]] | None:
        """Return what turns rows of the *source* columns into rows of this mapping, or None if they are the same."""
        if tuple(source) == self.columns:
            return None
        places = {column.name: index for index, column in enumerate(source)}
        absent = len(source)
        picks = [places.get(column.name, absent) for column in self.columns]
        if len(picks) == 1:
            return lambda row: ((*row, NOT_LOADED)[picks[0]],)
        pick = itemgetter(*picks)
        return lambda row: pick((*row, NOT_LOADED))

    def hollow_row(self, key: Any) -> tuple[Any, ...]:
        """Return a row of which only the *key* is known."""
        row = list(self.template)
        if len(self.key_columns) == 1:
            row[self.key_columns[0].position] = key
        else:
            for column, value in zip(self.key_columns, key, strict=True):
                row[column.position] = value
        return tuple(row)

    def describe_key(self, key: Any) -> str:
        """Return ``User[7]`` for messages, with the values as the program has them."""
        parts = key if isinstance(key, tuple) else (key,)
        shown = [repr(column.shown(part)) for column, part in zip(self.key_columns, parts, strict=False)]
        return f"{self.name}[{', '.join(shown)}]"

    def shown_key(self, key: Any) -> Any:
        """Return *key*, as rows have it, as `get_pk` gives it."""
        parts = iter(key if isinstance(key, tuple) else (key,))
        values: list[Any] = []
        for attribute in self.key:
            raw = tuple(islice(parts, len(attribute.columns)))
            target: Mapping | None = getattr(attribute, "target", None)  # of a reference
            values.append(attribute.columns[0].shown(raw[0]) if target is None else target.shown_key(raw))
        return values[0] if len(values) == 1 else tuple(values)

    @property
    def variable(self) -> str:
        """The name of an object in the examples of messages: ``user``."""
        return self.name.lower()

    def may_turn_out(self, value: Any) -> bool:
        """Tell whether *value*, of which only the key is known, may turn out to be of this subclass once loaded."""
        cls = type(value)
        return cls is not self.entity and issubclass(self.entity, cls) and bool(value._mapping_.is_hollow(value._row_))

    def is_hollow(self, row: tuple[Any, ...]) -> bool:
        """Tell whether *row* holds nothing but a key."""
        return any(row[column.position] is NOT_LOADED for column in self.eager if not column.is_key)


def mapping_of(entity: type) -> Mapping:
    """Return the mapping of *entity*, complete.

    Raises:
        ERDiagramError: it is only a base of entities.
        MappingError: ``generate_mapping()`` has not been called.
    """
    mapping: Mapping | None = entity._mapping_  # type: ignore[attr-defined]
    if mapping is None:
        raise ERDiagramError(f"{entity.__name__} is no entity of a database, only a base of entities")
    if not mapping.is_complete:
        mapping.require_complete()
    return mapping
