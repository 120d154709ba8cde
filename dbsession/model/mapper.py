"""``generate_mapping()``: from declared entities to tables, columns and the layout of rows.

Four passes over all entities: `_relate` finds the target and the reverse of each relation,
`_lay_out` makes the columns (a foreign key needs the key columns of its target first), `_link` the
tables of many-to-many relations, `_rank` the order in which tables depend on each other.
"""

from __future__ import annotations

from collections.abc import Iterable
from keyword import iskeyword
from operator import itemgetter
from typing import Any

from dbsession.backends.base import Dialect, ValueType
from dbsession.errors import BindingError, ERDiagramError
from dbsession.model.attributes import Attribute, ValueAttribute
from dbsession.model.collections import CollectionAttribute
from dbsession.model.declarations import Discriminator
from dbsession.model.mapping import Column, LinkTable, Mapping
from dbsession.model.references import ReferenceAttribute
from dbsession.model.registration import make_attribute, suggest
from dbsession.model.state import NOT_LOADED

__all__ = ["complete_mappings"]

_Relation = ReferenceAttribute | CollectionAttribute

_LONGEST_NAME = 63  # bytes, on PostgreSQL


def complete_mappings(mappings: Iterable[Mapping], dialect: Dialect) -> list[LinkTable]:
    """Complete *mappings* for *dialect*, and return the tables of their many-to-many relations.

    Raises:
        ERDiagramError: a target or reverse is missing or not clear, or names collide.
    """
    mappings = sorted(mappings, key=_depth)
    for mapping in mappings:
        mapping.dialect = dialect
        _add_discriminator(mapping)
    for mapping in mappings:
        for attribute in _relations(mapping):
            _find_target(mapping, attribute)
    for mapping in mappings:
        for attribute in _relations(mapping):
            _find_reverse(mapping, attribute)
    for mapping in mappings:
        for attribute in _relations(mapping):
            _choose_side(attribute)
    for mapping in mappings:
        _lay_out(mapping)
    for mapping in mappings:
        _finish(mapping)
    _rank(mappings)
    links = [link for mapping in mappings for link in _link(mapping)]
    _check_tables_differ(mappings, links, dialect)
    for mapping in mappings:
        mapping.is_complete = True
    return links


def _depth(mapping: Mapping) -> int:
    return 0 if mapping.parent is None else _depth(mapping.parent) + 1


def _relations(mapping: Mapping) -> list[_Relation]:
    references = [a for a in mapping.attributes.values() if isinstance(a, ReferenceAttribute)]
    return [*references, *mapping.collections.values()]


def _origin(attribute: Any) -> Any:
    """Return the attribute of the class that declared it first."""
    parent = attribute.mapping.parent
    while parent is not None:
        above = parent.member(attribute.name)
        if above is None:
            break
        attribute, parent = above, parent.parent
    return attribute


# --- inheritance ---------------------------------------------------------------------------------


def _add_discriminator(mapping: Mapping) -> None:
    """Give a hierarchy without a declared discriminator the hidden attribute ``classtype``."""
    root = mapping.root
    if mapping is root and mapping.subclasses and mapping.discriminator is None:
        declaration: Discriminator[str] = Discriminator(str)
        for member in mapping.family():
            if member.member("classtype") is not None:
                raise ERDiagramError(
                    f"{member.name}.classtype has the name of the hidden attribute that says which entity a row is: "
                    f"choose another one, or declare  kind = Discriminator(str)  in {mapping.name}"
                )
            member.attributes["classtype"] = make_attribute(declaration, "classtype", member)
    if root.discriminator is None:
        return
    value = mapping.discriminator_value
    if value in root.by_discriminator:
        other = root.by_discriminator[value]
        raise ERDiagramError(f"{mapping.name} and {other.name} have the same discriminator value {value!r}")
    root.by_discriminator[value] = mapping


# --- relations -----------------------------------------------------------------------------------


def _find_target(mapping: Mapping, attribute: _Relation) -> None:
    python = attribute.declaration.python
    entities = mapping.catalog.entities
    if isinstance(python, str):
        if python not in entities:
            raise ERDiagramError(
                f"{attribute!r} refers to {python}, and there is no such entity{suggest(python, entities)}"
            )
        attribute.target = entities[python]._mapping_
    else:
        if python._mapping_ is None or python._mapping_.catalog is not mapping.catalog:
            raise ERDiagramError(f"{attribute!r} refers to {python.__name__}, which belongs to another database")
        attribute.target = python._mapping_


def _find_reverse(mapping: Mapping, attribute: _Relation) -> None:
    origin = _origin(attribute)
    if origin is not attribute:
        attribute.reverse = origin.reverse
        return
    target = attribute.target
    wanted = attribute.declaration.options.get("reverse")
    if wanted is not None:
        name = wanted if isinstance(wanted, str) else _name_of(wanted, target)
        reverse = target.member(name)
        if not isinstance(reverse, ReferenceAttribute | CollectionAttribute):
            raise ERDiagramError(
                f"{attribute!r} names {target.name}.{name} as its reverse, and there is no such relation"
            )
        named = reverse.declaration.options.get("reverse")
        if named is not None and not _is_named(attribute, named):
            raise ERDiagramError(f"{attribute!r} names {reverse!r} as its reverse, but that one names {named!r}")
        _check_pair(attribute, reverse)
        attribute.reverse = _origin(reverse)
        return
    pointing_here = [c for c in _relations(target) if c.target in _ancestry(mapping) and c is not attribute]
    named_me = [c for c in pointing_here if _is_named(attribute, c.declaration.options.get("reverse"))]
    candidates = named_me or [c for c in pointing_here if c.declaration.options.get("reverse") is None]
    if not candidates:
        kind = "Set" if isinstance(attribute, ReferenceAttribute) else "Required or Optional"
        name = f"{mapping.name.lower()}{'s' if kind == 'Set' else ''}"
        raise ERDiagramError(
            f"the reverse of {attribute!r} is missing: declare it in {target.name}, "
            f"for instance  {f'{name}_' if iskeyword(name) else name} = "
            f'{"Set" if kind == "Set" else "Optional"}("{mapping.name}")'
        )
    if len(candidates) > 1:
        names = " and ".join(map(repr, candidates))
        raise ERDiagramError(f"{attribute!r} has several candidates for its reverse, {names}: choose with reverse=")
    _check_pair(attribute, candidates[0])
    attribute.reverse = _origin(candidates[0])


def _is_named(attribute: _Relation, wanted: Any) -> bool:
    """Tell whether *wanted*, what a ``reverse=`` names, is *attribute*."""
    if isinstance(wanted, str):
        return wanted == attribute.name
    return wanted is attribute or wanted is attribute.declaration  # == of attributes makes an expression


def _name_of(wanted: Any, target: Mapping) -> str:
    members: dict[str, Any] = {**target.attributes, **target.collections}
    for name, attribute in members.items():
        if attribute is wanted or attribute.declaration is wanted:
            return name
    return str(getattr(wanted, "name", wanted))


def _ancestry(mapping: Mapping) -> list[Mapping]:
    return [mapping, *(_ancestry(mapping.parent) if mapping.parent is not None else ())]


def _check_pair(attribute: _Relation, reverse: _Relation) -> None:
    if reverse.target not in _ancestry(attribute.mapping) and attribute.mapping not in _ancestry(reverse.target):
        raise ERDiagramError(
            f"{attribute!r} and {reverse!r} cannot be reverses: {reverse!r} refers to {reverse.target.name}"
        )
    others = [
        other
        for other in _relations(reverse.target)
        if other is not attribute
        and _origin(other) is other
        and getattr(other, "reverse", None) is _origin(reverse)
        and _origin(other) is not _origin(attribute)
    ]
    if others:
        raise ERDiagramError(
            f"{attribute!r} and {others[0]!r} have the same reverse, {reverse!r}: choose with reverse="
        )
    if isinstance(attribute, ReferenceAttribute) and isinstance(reverse, ReferenceAttribute):
        if attribute is reverse and attribute.is_required:
            raise ERDiagramError(f"{attribute!r}: a required reference cannot be its own reverse")
        if attribute.is_required and reverse.is_required:
            raise ERDiagramError(f"{attribute!r} and {reverse!r} cannot both be Required: neither could be saved first")


def _choose_side(attribute: _Relation) -> None:
    """Decide which side of a one-to-one relation has the column."""
    if isinstance(attribute, CollectionAttribute):
        if attribute.cascade_delete is None and isinstance(attribute.reverse, ReferenceAttribute):
            attribute.cascade_delete = attribute.reverse.is_required
        return
    reverse = attribute.reverse
    if isinstance(reverse, CollectionAttribute) or reverse is _origin(attribute):
        return
    mine = bool(attribute.declaration.column_names())
    theirs = bool(reverse.declaration.column_names())
    if attribute.is_required or reverse.is_required:
        attribute.is_virtual = not attribute.is_required
    elif mine != theirs:
        attribute.is_virtual = theirs
    else:
        here = (_origin(attribute).mapping.name, attribute.name)
        attribute.is_virtual = here > (reverse.mapping.name, reverse.name)


# --- columns -------------------------------------------------------------------------------------


def _lay_out(mapping: Mapping) -> None:
    """Make the columns of *mapping*; those of a parent class come first, at the same positions."""
    if mapping.columns:
        return
    parent = mapping.parent
    if parent is not None:
        _lay_out(parent)
    dialect = mapping.dialect
    root = mapping.root
    table = getattr(root.entity, "_table_", None) or dialect.table_name(root.name)
    mapping.table = table
    parts = table if isinstance(table, tuple) else (table,)
    mapping.quoted = ".".join([_quoted(part, f"the table of {root.name}", dialect) for part in parts])
    columns: list[Column] = []
    names = list(parent.attributes) if parent is not None else []
    for name in [*names, *(name for name in mapping.attributes if name not in names)]:
        attribute = mapping.attributes[name]
        if not attribute.columns and not attribute.is_virtual:
            attribute.columns = tuple(_columns(attribute, mapping))
        for column in attribute.columns:
            folded = _folded(column.name, dialect)
            if clash := next((other for other in columns if _folded(other.name, dialect) == folded), None):
                raise ERDiagramError(f"{attribute!r} and {clash.attribute!r} have the same column {column.name!r}")
            column.position = len(columns)
            columns.append(column)
        if attribute.columns:
            attribute.position = attribute.columns[0].position
        if isinstance(attribute, ReferenceAttribute):
            attribute.positions = tuple([column.position for column in attribute.columns])
    mapping.columns = tuple(columns)
    mapping.key_columns = tuple([column for part in mapping.key for column in part.columns])


def _folded(name: str, dialect: Dialect) -> str:
    """Return *name* as the database compares it: SQLite does not tell cases apart, quoted or not."""
    return name.lower() if dialect.name == "sqlite" else name


def _quoted(name: Any, what: str, dialect: Dialect) -> str:
    """Quote the name of a table or column; one that the database would refuse or cut is an error that says so."""
    if not isinstance(name, str) or not name or "\0" in name:
        raise ERDiagramError(f"{what} cannot be called {name!r}: a name is a str of one character or more, without NUL")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise ERDiagramError(f"{what} cannot be called {name!r}: it has characters that UTF-8 cannot encode") from None
    if dialect.name == "postgresql" and size > _LONGEST_NAME:
        raise ERDiagramError(
            f"{what} cannot be called {name!r}: PostgreSQL cuts names at {_LONGEST_NAME} bytes, and it has {size}; "
            f"choose a shorter one with _table_, table= or column="
        )
    return dialect.quote(name)


def _key_columns(root: Mapping, path: tuple[Mapping, ...]) -> tuple[Column, ...]:
    """Return the key columns of *root*, which may not be laid out yet: its other columns may refer back to *path*."""
    if root in path:
        raise ERDiagramError(f"the key of {root.name} depends on itself: {' -> '.join(m.name for m in (*path, root))}")
    for part in root.key:
        if not part.columns:
            part.columns = tuple(_columns(part, root, (*path, root)))
    return tuple([column for part in root.key for column in part.columns])


def _columns(attribute: Attribute[Any], mapping: Mapping, path: tuple[Mapping, ...] = ()) -> Iterable[Column]:
    chosen = attribute.declaration.column_names()
    is_own = mapping.parent is None or attribute.name in mapping.root.attributes
    if isinstance(attribute, ValueAttribute):
        yield _value_column(
            attribute, mapping, chosen[0] if chosen else attribute.name, nullable=attribute.nullable or not is_own
        )
        return
    assert isinstance(attribute, ReferenceAttribute)
    target = attribute.target.root
    keys = _key_columns(target, path)
    if chosen and len(chosen) != len(keys):
        raise ERDiagramError(f"{attribute!r} names {len(chosen)} columns, but the key of {target.name} has {len(keys)}")
    usual = [attribute.name] if len(keys) == 1 else [f"{attribute.name}_{key.name}" for key in keys]
    for name, key in zip(chosen or usual, keys, strict=True):
        column = Column(name, _quoted(name, f"the column of {attribute!r}", mapping.dialect), attribute, key.sql_type)
        column.references = key
        column.nullable = attribute.nullable or not is_own
        column.is_key = attribute.is_key
        yield column


def _value_column(attribute: ValueAttribute[Any], mapping: Mapping, name: str, *, nullable: bool) -> Column:
    dialect = mapping.dialect
    value_type: ValueType = attribute.kind.value_type
    try:
        codec = dialect.codec(value_type)
    except BindingError as error:
        raise ERDiagramError(f"{attribute!r}: {error}") from None
    column = Column(
        name,
        _quoted(name, f"the column of {attribute!r}", dialect),
        attribute,
        attribute.declaration.options.get("sql_type") or codec.sql_type,
    )
    attribute.complete(codec)
    column.encode, column.decode = attribute.encode, attribute.decode
    column.is_key = attribute.is_key
    column.auto = attribute.is_auto
    column.nullable = nullable
    column.sql_default = attribute.sql_default
    return column


def _finish(mapping: Mapping) -> None:
    """Derive what loading and flushing look up."""
    mapping.eager = tuple([column for column in mapping.columns if not column.attribute.is_lazy])
    mapping.template = (NOT_LOADED,) * len(mapping.columns)
    mapping.key_of = itemgetter(*[column.position for column in mapping.key_columns])
    mapping.auto_column = next((column for column in mapping.columns if column.auto and column.is_key), None)
    mapping.value_attributes = tuple([a for a in mapping.attributes.values() if isinstance(a, ValueAttribute)])
    mapping.reference_attributes = tuple([a for a in mapping.attributes.values() if isinstance(a, ReferenceAttribute)])
    for _, parts in mapping.composites:
        for virtual in [part for part in parts if isinstance(part, ReferenceAttribute) and part.is_virtual]:
            raise ERDiagramError(
                f"{virtual!r} has no column, since {virtual.reverse!r} has it, and cannot be part of a key or an index"
            )
    wide: dict[str, Column] = {}
    for member in mapping.family():
        for column in [
            column for column in member.columns if not column.attribute.is_lazy
        ]:  # no `eager` yet in subclasses
            first = wide.setdefault(_folded(column.name, mapping.dialect), column)
            if (first.sql_type, first.name) != (column.sql_type, column.name):
                raise ERDiagramError(
                    f"{first.attribute!r} and {column.attribute!r} share the column {column.name!r} with other types"
                )
    mapping.wide = tuple(wide.values())
    for attribute in mapping.reference_attributes:
        if not attribute.is_virtual and _origin(attribute) is attribute:
            attribute.target.references_here.append(attribute)


# --- tables --------------------------------------------------------------------------------------


def _check_tables_differ(mappings: list[Mapping], links: list[LinkTable], dialect: Dialect) -> None:
    tables: dict[str, str] = {}
    named = [(mapping.quoted, mapping.table, mapping.name) for mapping in mappings if mapping.root is mapping]
    named += [(link.quoted, link.table, f"the links of {link.left!r}") for link in links]
    for quoted, table, name in named:
        other = tables.setdefault(_folded(quoted, dialect), name)
        if other is not name:
            raise ERDiagramError(
                f"{other} and {name} have the same table {table!r}: choose another with _table_ or table="
            )


def _link(mapping: Mapping) -> Iterable[LinkTable]:
    """Make the link tables of the many-to-many relations that begin at *mapping*."""
    for attribute in mapping.collections.values():
        reverse = attribute.reverse
        if not isinstance(reverse, CollectionAttribute):
            continue
        origin = _origin(attribute)
        if origin is not attribute:
            attribute.link, attribute.is_left = origin.link, origin.is_left
            continue
        if attribute.link is not None:
            continue
        left, right = sorted((attribute, reverse), key=lambda side: (side.mapping.name, side.name))
        yield _make_link(left, right)


def _make_link(left: CollectionAttribute, right: CollectionAttribute) -> LinkTable:
    dialect = left.mapping.dialect
    options = (left.declaration.options, right.declaration.options)
    tables = {side["table"] for side in options if "table" in side}
    if len(tables) > 1:
        raise ERDiagramError(
            f"{left!r} and {right!r} name different tables for their links: {' and '.join(sorted(tables))}"
        )
    usual = f"{left.mapping.name}_{right.mapping.name}"
    if left.mapping is right.mapping or _several_links(left, right):
        usual = f"{left.mapping.name}_{left.name}"
    table = tables.pop() if tables else dialect.table_name(usual)
    link = LinkTable(table, _quoted(table, f"the table of {left!r}", dialect), left, right)
    # ``column`` names the columns of the side's own entity, ``reverse_column`` those of the other one.
    link.left_columns = _link_columns(left, _chosen(options[0], "column") or _chosen(options[1], "reverse_column"), "")
    suffix = "_2" if left.mapping.root is right.mapping.root else ""
    link.right_columns = _link_columns(
        right,
        _chosen(options[1] if left is not right else {}, "column") or _chosen(options[0], "reverse_column"),
        suffix,
    )
    left.link = right.link = link
    left.is_left, right.is_left = True, left is right
    return link


def _several_links(left: CollectionAttribute, right: CollectionAttribute) -> bool:
    pairs = [
        side
        for side in left.mapping.collections.values()
        if side.target is right.mapping and isinstance(side.reverse, CollectionAttribute)
    ]
    return len(pairs) > 1


def _chosen(options: dict[str, Any], option: str) -> tuple[str, ...]:
    if option in options:
        return (options[option],)
    return tuple(options.get(f"{option}s", ()))


def _link_columns(side: CollectionAttribute, chosen: tuple[str, ...], suffix: str) -> tuple[Column, ...]:
    keys = side.mapping.root.key_columns
    base = side.mapping.name.lower()
    usual = [f"{base}{suffix}"] if len(keys) == 1 else [f"{base}{suffix}_{key.name}" for key in keys]
    if chosen and len(chosen) != len(keys):
        raise ERDiagramError(f"{side!r} names {len(chosen)} link columns, but the key has {len(keys)}")
    columns: list[Column] = []
    for name, key in zip(chosen or usual, keys, strict=True):
        quoted = _quoted(name, f"the link column of {side!r}", side.mapping.dialect)
        column = Column(name, quoted, key.attribute, key.sql_type)
        column.references = key
        column.is_key = True
        columns.append(column)
    return tuple(columns)


def _rank(mappings: list[Mapping]) -> None:
    """Give each table a number above those of the tables that it refers to; a circle shares one number."""
    roots = [mapping for mapping in mappings if mapping.root is mapping]
    needs: dict[Mapping, set[Mapping]] = {root: set() for root in roots}
    for mapping in mappings:
        for attribute in mapping.attributes.values():
            if isinstance(attribute, ReferenceAttribute) and not attribute.is_virtual:
                needs[mapping.root].add(attribute.target.root)
    reach = {root: _reachable(root, needs) for root in roots}
    for root in roots:
        root.refers_to_itself = root in reach[root]
    # Whoever is below another reaches strictly more tables; in a circle all reach the same ones.
    for root in roots:
        root.rank = len(reach[root] | {root} if not root.refers_to_itself else reach[root])
    for mapping in mappings:
        mapping.rank, mapping.refers_to_itself = mapping.root.rank, mapping.root.refers_to_itself


def _reachable(start: Mapping, needs: dict[Mapping, set[Mapping]]) -> set[Mapping]:
    seen: set[Mapping] = set()
    todo = list(needs[start])
    while todo:
        root = todo.pop()
        if root not in seen:
            seen.add(root)
            todo.extend(needs[root])
    return seen
