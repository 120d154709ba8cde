"""Copies of a query within another one: the loops of the one become loops of the other.

``select(u for u in adults if u.name == name)`` over a query ``adults`` needs no subquery: the loops and conditions
of ``adults`` are taken over, with variables of their own and slots that are numbered on.
"""

from __future__ import annotations

from typing import Any

from dbsession.model.attributes import Attribute
from dbsession.model.collections import CollectionAttribute
from dbsession.model.expressions import Operation, Ordering
from dbsession.query.selected import For, Selected
from dbsession.query.tree import Path, RawSql, Slot, Subquery, Variable, walk

__all__ = ["copied", "may_merge"]


def may_merge(selected: Selected) -> bool:
    """Tell whether another query may take the loops of *selected* for its own."""
    is_special = selected.is_sliced or selected.is_left or selected.is_distinct or selected.keeps_duplicates
    return not (is_special or selected.lock or selected.is_grouped)


def copied(selected: Selected, shift: int, name: str) -> Selected:
    """Return *selected* with other variables, and with slots that are numbered from *shift* on.

    *name*: what the variable of its result is called, unless SQL of the user's own says how it is. The others
    have names that only the author of *selected* knows, so lambdas do not see them.
    """
    copier = _Copier(shift)
    has_raw = any(isinstance(node, RawSql) for node in walk((selected.items, selected.conditions)))
    for loop in selected.fors:
        written = name if loop.variable is selected.result and name else None
        own = written if written and not has_raw else loop.variable.name
        copier.variables[id(loop.variable)] = Variable(
            loop.variable.mapping, own, written=written, is_optional=loop.variable.is_optional
        )
    return copier.selected(selected)


class _Copier:
    def __init__(self, shift: int) -> None:
        self.shift = shift
        self.variables: dict[int, Variable] = {}

    def selected(self, selected: Selected) -> Selected:
        bare = selected.bare
        main = self.variables.get(id(bare), bare)
        fors = [
            For(self.variables.get(id(variable), variable), self.node(origin, main))
            for variable, origin in selected.fors
        ]
        return selected.replace(
            fors=tuple(fors),
            result=self.node(selected.result, main),
            conditions=self.node(selected.conditions, main),
            orderings=self.node(selected.orderings, main),
            main=None if selected.main is None else main,
        )

    def node(self, node: Any, main: Variable) -> Any:
        """Return a copy of *node*; a bare attribute is that of the variable *main*."""
        if isinstance(node, tuple):
            return tuple([self.node(each, main) for each in node])
        if isinstance(node, Variable):
            return self.variables.get(id(node), node)
        if isinstance(node, Attribute | CollectionAttribute):
            return Path(main, node) if main.mapping.root is node.mapping.root else node
        if isinstance(node, Path):
            return Path(self.node(node.base, main), node.attribute)
        if isinstance(node, Slot):
            return Slot(node.number + self.shift, node.sample)
        if isinstance(node, Operation):
            return Operation(node.operator, *[self.node(operand, main) for operand in node.operands])
        if isinstance(node, Ordering):
            return Ordering(self.node(node.expression, main), descending=node.descending)
        if isinstance(node, RawSql):
            return RawSql(node.texts, self.node(node.values, main), node.python)
        if isinstance(node, Subquery):
            inner = _Copier(self.shift + node.shift)
            inner.variables = self.variables
            return Subquery(inner.selected(node.selected))
        return node
