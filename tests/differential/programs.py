"""Whole programs: a query, what follows it, and the values that it is given."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace

from tests.differential.grammar import Program, Writer
from tests.differential.rows import ROWS, identity
from tests.differential.schema import TABLES, Level, attributes, key_of, lineage
from tests.differential.templates import COMPARED, DOCUMENTS

__all__ = ["GLOBALS", "VALUES", "Key", "draw_program", "draw_values"]

GLOBALS = {
    "THREE": 3,
    "box": SimpleNamespace(three=3, half=0.5, name="Ann", day=date(2026, 3, 1)),
    "Level": Level,
    "Decimal": Decimal,
    "date": date,
    "datetime": datetime,
    "timedelta": timedelta,
}

VALUES = {
    "int": [0, 1, 7, 40, -1, 3, 30, 17, -30000],
    "float": [0.0, 2.5, -1.5, 0.25, 12.0],
    "decimal": [Decimal("0.00"), Decimal("21.19"), Decimal("1.2"), Decimal("-12.25"), Decimal("1000.50")],
    "text": ["", "Ann", "x", "%", "_", "\\", "it's", '"', "é", "a%b_c\\d'e\"f", "ann@x.org", " "],
    "bool": [False, True],
    "date": [date(2026, 3, 1), date(1999, 12, 31), date(2024, 2, 29)],
    "datetime": [datetime(2026, 3, 1), datetime(2024, 2, 29, 6, 7, 8), datetime(2025, 12, 31, 23, 59, 59, 250000)],
    "delta": [timedelta(0), timedelta(hours=8), timedelta(days=-2), timedelta(days=1, minutes=30)],
    "level": [Level.LOW, Level.MID, Level.HIGH],
    "key": ["n", "s", "deep", "a b", "tags", "it's"],
    "bound": [0, 1, -1, 2, -3, 50],
}


class Key:
    """The object of *entity* with *key*, whichever world it is looked up in."""

    def __init__(self, entity, key):
        self.entity = entity
        self.key = key

    def __repr__(self):
        return f"{self.entity}[{', '.join(map(repr, self.key))}]"


for _entity in TABLES:
    VALUES[_entity] = [
        Key(_entity, identity(_entity, row)[1]) for name in ROWS if _entity in lineage(name) for row in ROWS[name]
    ]


class ProgramWriter(Writer):
    """Writes queries with the verbs that follow them."""

    def program(self):
        """Return the text of a program."""
        forms = [
            self.objects,
            self.values,
            self.tuples,
            self.groups,
            self.total,
            self.verdict,
            self.of_class,
            self.handed,
        ]
        return self.pick(forms)()

    def loops(self, most=2):
        """Return the ``for`` clauses of a query with its condition, and its scope."""
        entity = self.pick(
            ["User", "Order", "Product", "Booking", "Company", "Manager", "Seat", "Category", "Tag", "Chief"]
        )
        scope = [(self.variable(entity), entity)]
        clauses = f"for {scope[0][0]} in {entity}"
        while len(scope) < most and self.chance(4):
            found = self.collection(scope) if not self.chance(4) else None
            found = self.outside() if self.chance(8) else found
            source, entity = found or ((other := self.pick(["Company", "Seat", "Tag", "User"])), other)
            scope.insert(0, (self.variable(entity), entity))
            clauses += f" for {scope[0][0]} in {source}"
        if self._draw(4):
            clauses += f" if {self.expression('condition', scope, 3)}"
        if self.chance(4):
            clauses += f" if {self.expression('condition', scope, 2)}"
        return clauses, scope

    # --- forms ------------------------------------------------------------------------------------------

    def objects(self):
        """Objects: those of a variable, or those that a reference leads to."""
        clauses, scope = self.loops()
        variable = self.pick(scope)
        element = variable[0]
        if self.chance(6):
            element = self.path(scope, "references") or element
        if self.chance(6):
            return f"select({element} {clauses}){self.pick(['.count()', '.exists()', '.distinct()', '.distinct().count()'])}"
        if element != variable[0]:
            return f"select({element} {clauses})"
        return f"select({element} {clauses}){self.tail(variable)}"

    def tail(self, variable):
        """Return what narrows, orders and limits a query for the objects of *variable*."""
        name, entity = variable
        text = ""
        if self.chance(5):
            condition = self.expression("condition", [variable], 2)
            text += f".{self.pick(['filter', 'where'])}(lambda {name}: {condition})"
        if self.chance(8):
            kind = self.pick(["text", "int", "decimal", "date"])
            names = [known for known, what in attributes(entity, "values").items() if what == kind]
            text += f".filter({self.pick(names)}={self.parameter(kind, nullable=True)})" if names else ""
        if self.chance(4):
            orders = [self.order(variable) for _ in range(1 + self._draw(1))]
            orders += [f"{entity}.{part}" for part in key_of(entity)] if self.chance(2) else []
            text += f".order_by({', '.join(orders)})"
            text += self.pick(["", "[:3]", "[1:4]", ".limit(2)", ".limit(3, 2)", ".page(2, 3)", ".first()"])
        elif self.chance(8):
            text += self.pick([".distinct()", ".without_distinct()", ".limit(3).count()", ".first()"])
        return text

    def order(self, variable):
        """Return what a query for objects is ordered by."""
        name, entity = variable
        kind = self.pick(["int", "text", "date", "decimal", "datetime"])
        kind = kind if self.path([variable], "values", kind) else "text"
        if self._draw(1):
            key = self.dependent(kind, [variable], 1)
            key = key if " if " not in key and " or " not in key else self.path([variable], "values", kind)
            found = f"lambda {name}: {key}"
            return found if self._draw(2) else found.replace(": ", ": desc(", 1) + ")"
        names = [name for name, what in attributes(entity, "values").items() if what not in {"json", "bool"}]
        attribute = f"{entity}.{self.pick(names)}"
        return attribute if self._draw(2) else f"desc({attribute})"

    def element(self, scope):
        """Return a value for the result of a query."""
        kind = self.pick([*COMPARED, "condition", "document"])
        if kind == "document":
            return self.fill(self.pick(DOCUMENTS), scope, 0) if self.object(scope, "User") else self.leaf("int", scope)
        if kind == "condition":  # as a value, `a or b` is a or b, and not whether one of them is true
            return f"not ({self.expression(kind, scope, 2)})" if self._draw(1) else self._same(scope, 2)
        return self.expression(kind, scope, 2 + self._draw(1))

    def values(self):
        """Values of one expression."""
        clauses, scope = self.loops()
        element = self.element(scope)
        tails = [
            "",
            ".distinct()",
            ".without_distinct()",
            ".count()",
            ".order_by(1)",
            ".order_by(-1)",
            ".order_by(1)[:4]",
        ]
        return f"select({element} {clauses}){self.pick(tails) if self.chance(3) else ''}"

    def tuples(self):
        """Tuples of values and objects."""
        clauses, scope = self.loops()
        items = [self.pick(scope)[0] if self.chance(3) else self.element(scope) for _ in range(2 + self._draw(1))]
        tail = self.pick([".distinct()", ".without_distinct()", ".count()", ".order_by(2)"]) if self.chance(4) else ""
        verb = "left_join" if not tail and "in v" not in clauses and self.chance(4) else "select"
        return f"{verb}(({', '.join(items)}) {clauses}){tail}"

    def aggregated(self, scope):
        """Return an aggregate of the rows of the query itself."""
        kind = self.pick(["int", "decimal", "float", "date", "text"])
        kind = kind if self.path(scope, "values", kind) else "text"
        names = ["sum", "min", "max", "avg"] if kind in {"int", "decimal", "float"} else ["min", "max"]
        options = [
            f"count({self.pick(scope)[0]})",
            f"{self.pick(names)}({self.dependent(kind, scope, 0)})",
            f"{self.pick(names)}({self.dependent(kind, scope, 1)})",
            f"count({self.dependent(kind, scope, 0)})",
            f"count(distinct({self.dependent(kind, scope, 0)}))",
            f"group_concat({self.path(scope, 'values', 'text') or self.path(scope, 'values', 'int')})",
            "count()",
        ]
        return self.pick(options)

    def groups(self):
        """Aggregates for each group of rows."""
        clauses, scope = self.loops()
        kinds = ["text", "int", "date", "bool", "level"]
        found = [self.path(scope, "values", self.pick(kinds)) or self.pick(scope)[0] for _ in range(1 + self._draw(1))]
        if self.chance(3):
            found[0] = self.path(scope, "references") or self.pick(scope)[0]
        elif self.chance(4):
            found[0] = self.expression(self.pick(kinds), scope, 1)
        items = [*found, *(self.aggregated(scope) for _ in range(1 + self._draw(1)))]
        is_grouped = any(self.is_dependent(item, scope) for item in found) and not {name for name, _ in scope} & {
            *found
        }
        having = f" if count({self.pick(scope)[0]}) > 1" if is_grouped and self.chance(6) else ""
        return f"select(({', '.join(items)}) {clauses}{having})"

    def total(self):
        """Aggregates of all rows: one value, or one tuple."""
        clauses, scope = self.loops()
        if self._draw(1):
            return f"select({self.aggregated(scope)} {clauses})"
        kind = self.pick(["int", "float", "decimal"])
        element = self.expression(kind, scope, 2)
        if self._draw(1):
            return f"{self.pick(['sum', 'min', 'max', 'avg', 'count'])}({element} {clauses})"
        return f"select({element} {clauses}).{self.pick(['sum', 'min', 'max', 'avg'])}()"

    def of_class(self):
        """Objects, by the verbs of their class."""
        entity = self.pick(["User", "Order", "Product", "Booking", "Manager", "Seat", "Tag"])
        query = self.query_of_class(entity, 2)
        name = query.partition("lambda ")[2].partition(":")[0]
        if self._draw(3):
            return query + self.tail((name, entity))
        return query.replace(".select", self.pick([".exists", ".get"]), 1)

    def handed(self):
        """A query within one that was made before."""
        entity = self.pick(["User", "Order", "Product", "Company"])
        clauses, scope = self.loops()
        element = self.object(scope, entity)
        if element is None:
            return self.verdict()
        condition = f"{element} {self.pick(['in', 'not in'])} q" if self._draw(2) else f"count(q) > {self.pick('123')}"
        query = self.query_of_class(entity, 2)
        if self.chance(3):
            keys = ", ".join(f"{entity}.{name}" for name in key_of(entity))
            query += f".order_by({keys}).limit({self.pick('123')})"
        return f"(lambda q: select({scope[0][0]} {clauses} if {condition}))({query})"

    def verdict(self):
        """Whether there is such an object, and how many there are."""
        clauses, scope = self.loops()
        return f"{self.pick(['count', 'exists', 'get'])}({self.pick(scope)[0]} {clauses})"


def draw_program(draw):
    """Return a `Program`; *draw(n)* gives a number from 0 to n."""
    writer = ProgramWriter(draw)
    text = writer.program()
    return Program(text, [parameter for parameter in writer.parameters if re.search(rf"\b{parameter.name}\b", text)])


def draw_values(program, draw):
    """Return values for the parameters of *program*, by name."""
    found = {}
    for parameter in program.parameters:
        if parameter.type in VALUES:
            options = VALUES[parameter.type]
            is_null = parameter.nullable and draw(3) == 3
            found[parameter.name] = None if is_null else options[draw(len(options) - 1)]
        else:
            options = [*VALUES[parameter.type.removesuffix("s")], None]
            found[parameter.name] = [options[draw(len(options) - 1)] for _ in range(draw(3))]
    return found
