"""The birth of an entity class: its declarations become descriptors, and it is entered in its database.

What needs the other entities (targets, reverses, columns) waits for ``generate_mapping()``, see `mapper`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from enum import Enum
from typing import TYPE_CHECKING, Any

from dbsession.errors import ERDiagramError
from dbsession.model.attributes import Attribute, ValueAttribute
from dbsession.model.collections import CollectionAttribute
from dbsession.model.declarations import Composite, Declaration, Discriminator, PrimaryKey, Version
from dbsession.model.mapping import Catalog, Gateway, Mapping
from dbsession.model.options import check_options
from dbsession.model.references import ReferenceAttribute
from dbsession.model.types import attribute_type

if TYPE_CHECKING:
    from dbsession.model.entity import EntityBase

__all__ = ["HOOKS", "begin_mapping", "make_attribute", "suggest"]

HOOKS = ("before_insert", "after_insert", "before_update", "after_update", "before_delete", "after_delete")


def suggest(name: str, names: Iterable[str]) -> str:
    """Return "; did you mean ...?" for a name that is close to one of *names*, else nothing."""
    close = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def begin_mapping(entity: type[EntityBase], catalog: Catalog, gateway: Gateway) -> None:
    """Make the mapping and the descriptors of *entity*, and register it in *catalog*.

    Raises:
        ERDiagramError: the declarations contradict each other.
        MappingError: ``generate_mapping()`` was called already.
    """
    mapping = Mapping(entity, catalog, gateway)
    _inherit(mapping)
    declared = _declarations(mapping)
    for name, declaration in declared.items():
        _check_name(mapping, name)
        attribute = make_attribute(declaration, name, mapping)
        if isinstance(attribute, CollectionAttribute):
            mapping.collections[name] = attribute
        else:
            mapping.attributes[name] = attribute
    by_declaration = {id(attribute.declaration): attribute for attribute in mapping.attributes.values()}
    composites: dict[int, Composite] = {}
    for declaration in declared.values():
        composites.update((id(composite), composite) for composite in declaration.composites)
    for composite in composites.values():
        parts = tuple([by_declaration[id(part)] for part in composite.parts if id(part) in by_declaration])
        if len(parts) == len(composite.parts):
            mapping.composites.append((composite, parts))
    _choose_key(mapping)
    # Before the class refers to it, so that a refused class leaves no trace.
    catalog.register(entity)
    entity._mapping_ = mapping
    members: dict[str, Any] = {name: mapping.member(name) for name in declared}
    type.__setattr__(entity, "_attributes_", members)
    for name, member in members.items():
        type.__setattr__(entity, name, member)
    if mapping.parent is not None:
        mapping.parent.subclasses.append(mapping)
    mapping.hooks = frozenset(hook for hook in HOOKS if callable(getattr(entity, hook, None)))


def _inherit(mapping: Mapping) -> None:
    entity = mapping.entity
    found: list[Any] = [getattr(base, "_mapping_", None) for base in entity.__bases__]
    parents: list[Mapping] = [mapping for mapping in found if mapping is not None]
    if len({parent.root for parent in parents}) > 1:
        names = " and ".join(parent.name for parent in parents)
        raise ERDiagramError(f"{mapping.name} inherits from {names}, which lie in different tables")
    nearest = [one for one in parents if not any(_is_above(one, other) for other in parents)]
    if len(nearest) > 1:
        names = " and ".join(parent.name for parent in nearest)
        raise ERDiagramError(
            f"{mapping.name} inherits from {names}, two branches of one hierarchy; a row has one place in it: "
            f"inherit from one of them, and put what is shared in a class that is no entity"
        )
    if nearest:
        mapping.parent = nearest[0]
        mapping.root = nearest[0].root


def _is_above(one: Mapping, other: Mapping) -> bool:
    parent = other.parent
    return parent is not None and (parent is one or _is_above(one, parent))


def _declarations(mapping: Mapping) -> dict[str, Declaration[Any]]:
    """Collect the declarations of the class, its entity bases and its mixins; a parent's come first."""
    declared: dict[str, Declaration[Any]] = {}
    for base in reversed(mapping.entity.__mro__):
        own = base.__dict__.get("_declared_")
        if own is None:  # a mixin, no entity: its declarations stand in it as they are
            own = {name: value for name, value in base.__dict__.items() if isinstance(value, Declaration)}
        for name, declaration in own.items():
            if name in declared and declared[name] is not declaration and getattr(base, "_catalog_", None) is not None:
                raise ERDiagramError(f"{mapping.name}.{name} is declared twice, in {base.__name__} and in a base of it")
            declared[name] = declaration
    inherited = mapping.parent
    has_key = any(isinstance(declaration, PrimaryKey) for declaration in declared.values()) or any(
        composite.is_primary for declaration in declared.values() for composite in declaration.composites
    )
    if inherited is not None:
        members: dict[str, Any] = {**inherited.attributes, **inherited.collections}
        for name, attribute in members.items():
            declared.setdefault(name, attribute.declaration)
        names = [*inherited.attributes, *inherited.collections]
        return {name: declared[name] for name in (*names, *(name for name in declared if name not in names))}
    if not has_key:
        if "id" in declared:
            raise ERDiagramError(
                f"{mapping.name} has an attribute 'id' that is no PrimaryKey, and no PrimaryKey elsewhere"
            )
        declared = {"id": PrimaryKey(int, auto=True), **declared}
    return declared


def _check_name(mapping: Mapping, name: str) -> None:
    from_base = any(hasattr(base, name) for base in mapping.entity.__mro__ if base.__name__ in {"Entity", "EntityBase"})
    if name.startswith("_") or from_base or hasattr(type(mapping.entity), name):
        raise ERDiagramError(
            f"{mapping.name}.{name}: an attribute cannot have the name of something that every entity has; "
            f"choose another one, with column={name!r} the column keeps its name"
        )


def make_attribute(declaration: Declaration[Any], name: str, mapping: Mapping) -> Any:
    """Make the descriptor for *declaration*.

    Raises:
        ERDiagramError: the type cannot be stored, or an option does not fit it.
    """
    python = declaration.python
    is_entity = isinstance(python, str) or hasattr(python, "_mapping_")
    if declaration.is_set:
        if not is_entity:
            raise ERDiagramError(
                f"{mapping.name}.{name}: Set() takes an entity or its name; a list is list[...] or Json"
            )
        return CollectionAttribute(declaration, name, mapping)
    check_options(declaration, f"{mapping.name}.{name}", is_reference=is_entity)
    if is_entity:
        return ReferenceAttribute(declaration, name, mapping)
    try:
        kind = attribute_type(python, declaration.options)
    except ERDiagramError as error:
        raise ERDiagramError(f"{mapping.name}.{name}: {error}") from None
    if isinstance(declaration, Discriminator):
        return _make_discriminator(_DiscriminatorAttribute(declaration, name, mapping, kind))
    attribute: ValueAttribute[Any] = ValueAttribute(declaration, name, mapping, kind)
    if attribute.is_auto and python is not int:
        raise ERDiagramError(f"{mapping.name}.{name}: auto=True is for int keys; for other types use default=")
    if isinstance(declaration, Version):
        if mapping.version is not None:
            raise ERDiagramError(f"{mapping.name} has several Version attributes, {mapping.version.name} and {name}")
        attribute.default = 1
        mapping.version = attribute
    elif isinstance(attribute.default, Enum) or (attribute.default is not None and not callable(attribute.default)):
        _check_default(attribute)
    return attribute


class _DiscriminatorAttribute(ValueAttribute[Any]):
    """The attribute that says which entity a row is; each entity has one value for it."""

    def coerce(self, value: Any) -> Any:
        """Take the value of this entity only: a row does not change what it is."""
        value = super().coerce(value)
        if value != self.default:
            raise ValueError(
                f"{self!r} says which entity a row is, and is {self.default!r} for every {self.mapping.name}; "
                f"create an object of the class that has {value!r}"
            )
        return value


def _make_discriminator(attribute: _DiscriminatorAttribute) -> _DiscriminatorAttribute:
    mapping = attribute.mapping
    if mapping.discriminator is not None:
        names = f"{mapping.discriminator.name} and {attribute.name}"
        raise ERDiagramError(f"{mapping.name} has several Discriminator attributes, {names}")
    chosen = mapping.entity.__dict__.get("_discriminator_", mapping.name)
    try:
        attribute.default = mapping.discriminator_value = attribute.kind.coerce(chosen)
    except (TypeError, ValueError) as error:
        raise ERDiagramError(
            f"{attribute!r} {error}: give {mapping.name} its value, of the type of {attribute.name}, "
            f"with _discriminator_ = ..."
        ) from None
    mapping.discriminator = attribute
    return attribute


def _check_default(attribute: ValueAttribute[Any]) -> None:
    from_type = type(attribute.default).__name__
    if from_type == "_Sentinel":
        return
    try:
        attribute.coerce(attribute.default)
    except (TypeError, ValueError) as error:
        raise ERDiagramError(f"the default of {attribute!r} does not fit: {error}") from None


def _choose_key(mapping: Mapping) -> None:
    if mapping.parent is not None:
        mapping.key = tuple([mapping.attributes[part.name] for part in mapping.parent.key])
        declared = [part for part in mapping.attributes.values() if isinstance(part.declaration, PrimaryKey)]
        declared += [part for composite, parts in mapping.composites if composite.is_primary for part in parts]
        if more := [part for part in declared if not any(part is own for own in mapping.key)]:
            raise ERDiagramError(
                f"{more[0]!r}: a subclass has the key of its hierarchy, here the key of {mapping.root.name}; "
                f"use unique=True or composite_key()"
            )
    else:
        single = [
            attribute for attribute in mapping.attributes.values() if isinstance(attribute.declaration, PrimaryKey)
        ]
        several = [parts for composite, parts in mapping.composites if composite.is_primary]
        if len(single) + len(several) != 1:
            raise ERDiagramError(f"{mapping.name} has {len(single) + len(several)} primary keys; it can have one")
        mapping.key = tuple(single) or several[0]
    part: Attribute[Any]
    for part in mapping.key:
        if part.is_auto and len(mapping.key) > 1:
            raise ERDiagramError(f"{part!r}: auto=True is for a key of one attribute, and {mapping.name} has several")
        part.is_key = True
        part.is_checked = False
        if not (part.is_required or part.is_auto):
            raise ERDiagramError(f"{part!r} is part of the primary key, so it has to be Required")
    for attribute in mapping.attributes.values():
        if attribute.is_auto and not attribute.is_key:
            raise ERDiagramError(f"{attribute!r}: auto=True is for the primary key; for others there is default=")
