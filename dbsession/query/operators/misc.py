"""What belongs to no family."""

from __future__ import annotations

from dbsession.query.kinds import kind_of
from dbsession.query.operators.base import Operator

__all__ = ["OPERATORS"]

OPERATORS: dict[str, Operator] = {
    # an expression that is no operation, made one (see `ValueAttribute`)
    "value": Operator(lambda compiler, operands: compiler.render(operands[0]), lambda operands: kind_of(operands[0])),
}
