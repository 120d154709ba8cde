"""Expressions evaluated twice: by a database, as the results of a query, and by Python, over the same values."""

from __future__ import annotations

from dbsession.model.attributes import Attribute
from dbsession.model.expressions import Operation
from dbsession.query.query import Query
from dbsession.query.selected import For, Selected
from dbsession.query.tree import Slot, Variable


def query_for(Entity, *nodes, where=(), values=()):
    """Return the query for the key and *nodes* of each object; *values* are those of the slots."""
    mapping = Entity._mapping_
    variable = Variable.of(mapping)
    selected = Selected((For(variable),), (*mapping.key, *nodes), tuple(where))
    return Query(selected, mapping.gateway, tuple(values))


def selected_values(Entity, *nodes, where=(), values=()):
    """Return what the database gives for *nodes*, by the key of each object; single values for a single node."""
    rows = query_for(Entity, *nodes, where=where, values=values).fetch()
    return {row[0]: row[1] if len(nodes) == 1 else row[1:] for row in rows}


def kept_keys(Entity, condition, values=()):
    """Return the keys of the objects for which the database takes *condition* for true."""
    return {row[0] for row in query_for(Entity, where=(condition,), values=values).fetch()}


def op(operator, *operands):
    """Return an operation; shorter than its name."""
    return Operation(operator, *operands)


def in_python(meanings, node, obj, values=()):
    """Return what *node* is by Python, of the attributes of *obj*; an operand that is None makes it None."""
    if isinstance(node, Attribute):
        return getattr(obj, node.name)
    if isinstance(node, Slot):
        return values[node.number]
    if not isinstance(node, Operation):
        return node
    operands = [in_python(meanings, operand, obj, values) for operand in node.operands]
    return None if None in operands else meanings[node.operator](*operands)
