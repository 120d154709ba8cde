"""Writes queries: expressions of a wanted type, as text, from `templates` whose fields are types again.

Every choice is a number that is drawn, and 0 is the simplest: hypothesis reduces what fails by making
numbers smaller. Attributes and constants stand first, and where the depth is used up they are all there is.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field

from tests.differential.loops import names_in
from tests.differential.schema import TABLES, attributes, lineage
from tests.differential.templates import COMPARED, CONSTANTS, JSON, LETTERS, ORDERED, TEMPLATES

__all__ = ["Parameter", "Program", "Writer"]

FIELD = re.compile(r"\{(\*?)(\w+)\}")


@dataclass
class Parameter:
    """A value that a program is given when it runs, of a *type*; None too, if it is *nullable*."""

    name: str
    type: str
    nullable: bool = False


@dataclass
class Program:
    """The text of an expression that makes a query, and what it wants to be given."""

    text: str
    parameters: list[Parameter] = field(default_factory=list)


def paths(entity, kind, hops=2):
    """Return the ways from an object of *entity* to its values, references or collections: (".user.age", "int")."""
    found = [(f".{name}", what) for name, what in attributes(entity, kind).items()]
    if hops:
        for name, target in attributes(entity, "references").items():
            found += [(f".{name}{way}", what) for way, what in paths(target, kind, hops - 1)]
    return found


PATHS = {
    (entity, kind): sorted(paths(entity, kind), key=lambda found: found[0].count("."))
    for entity in TABLES
    for kind in ("values", "references", "collections")
}


OWNERS = [entity for entity in TABLES if attributes(entity, "collections")]


class Unavailable(Exception):
    """Nothing in the scope has the wanted type."""


def unavailable(what):
    """Raise what makes the writer choose something else."""
    raise Unavailable(what)


class Writer:
    """Writes one program; *draw(n)* gives a number from 0 to n."""

    def __init__(self, draw):
        self._draw = draw
        self.parameters = []
        self._used = {}

    # --- choices ----------------------------------------------------------------------------------------

    def pick(self, options):
        """Return one of *options*."""
        return options[self._draw(len(options) - 1)] if len(options) > 1 else options[0]

    def chance(self, one_of):
        """Return True once in *one_of* times."""
        return self._draw(one_of - 1) == one_of - 1

    def variable(self, entity):
        """Return a new name for a variable over *entity*."""
        letter = LETTERS[entity]
        self._used[letter] = number = self._used.get(letter, 0) + 1
        return letter if number == 1 else f"{letter}{number}"

    def parameter(self, kind, *, nullable=False):
        """Return the name of a new parameter."""
        self.parameters.append(Parameter(f"v{len(self.parameters)}", kind, nullable))
        return self.parameters[-1].name

    # --- expressions ------------------------------------------------------------------------------------

    def expression(self, kind, scope, depth):
        """Return an expression of the type *kind* over the variables of *scope*."""
        templates = TEMPLATES[kind]
        if kind == "condition":
            if depth <= 0:
                return self._same(scope, depth)
        elif depth <= 0 or self._draw(9) < 5:
            return self.leaf(kind, scope)
        try:
            return self.fill(self.pick(templates), scope, depth - 1)
        except Unavailable:
            return self._same(scope, 0) if kind == "condition" else self.leaf(kind, scope)

    def dependent(self, kind, scope, depth):
        """Return an expression that has a variable in it, if there is one of the type *kind*."""
        found = self.field(kind, scope, depth)
        return found if self.is_dependent(found, scope) else self.path(scope, "values", kind) or found

    @staticmethod
    def is_dependent(text, scope):
        """Tell whether one of the variables stands in *text*."""
        found = {variable for variable, _ in scope} & set(re.findall(r"\w+", text))
        return bool(found) and not found.isdisjoint(names_in(ast.parse(text, mode="eval")))

    def fill(self, template, scope, depth):
        """Return *template* with its fields written: ``{int}``, ``{*int}`` for one that is no constant; « is a brace."""
        written = FIELD.sub(
            lambda match: (self.dependent if match[1] else self.field)(match[2], scope, depth), template
        )
        return written.replace("«", "{").replace("»", "}")

    def field(self, name, scope, depth):
        """Return what stands for a field of a template."""
        method = getattr(self, f"_{name}", None)
        return self.expression(name, scope, depth) if method is None else method(scope, depth)

    def leaf(self, kind, scope):
        """Return an attribute, a constant or a parameter."""
        if not self.chance(5):
            found = self.path(scope, "values", kind)
            if found is not None:
                return found
        return self.parameter(kind) if self.chance(3) else self.pick(CONSTANTS[kind])

    def path(self, scope, kind, wanted=None):
        """Return a path from one of the variables to what is *wanted*, or to anything; None if there is none."""
        found = [
            variable + way
            for variable, entity in scope
            for way, what in PATHS[entity, kind]
            if wanted in {None, what} or (callable(wanted) and wanted(what))
        ]
        if not found:
            return None
        nearest = [path for path in found if path.count(".") == 1]
        return self.pick(nearest if nearest and not self.chance(3) else found)

    def object(self, scope, entity):
        """Return an object of *entity* (or of a subclass, or NULL); None if nothing leads to one."""
        variables = [variable for variable, other in scope if entity in lineage(other)]
        if variables and not self.chance(3):
            return self.pick(variables)
        found = self.path(scope, "references", lambda target: entity in lineage(target))
        return found or (self.pick(variables) if variables else None)

    # --- fields -----------------------------------------------------------------------------------------

    def _text_path(self, scope, depth):
        return self.path(scope, "values", "text") or unavailable("a text")

    def _int_path(self, scope, depth):
        return self.path(scope, "values", "int") or unavailable("an int")

    def _bool_path(self, scope, depth):
        return self.path(scope, "values", "bool") or unavailable("a bool")

    def _decimal_path(self, scope, depth):
        return self.path(scope, "values", "decimal") or unavailable("a Decimal")

    def _date_path(self, scope, depth):
        return self.path(scope, "values", "date") or unavailable("a date")

    def _text_key(self, scope, depth):
        return self.pick(['"n"', '"s"', '"x y"', self.parameter("key")])

    def _divisor(self, scope, depth):
        return self.fill(self.pick(["2", "3", "-2", "7", "THREE", "(abs({int}) + 1)"]), scope, depth)

    def _bound(self, scope, depth):
        return (
            self.pick(["1", "0", "2", "-1", "3", "-2", "100", "-100"])
            if not self.chance(5)
            else self.parameter("bound")
        )

    def _same(self, scope, depth):
        kind = self.pick(COMPARED)
        operators = ORDERED if kind not in {"level", "bool"} else ORDERED[:2]
        left, right = self.dependent(kind, scope, depth), self.expression(kind, scope, depth)
        return f"{left} {self.pick(operators)} {right}"

    def _truth(self, scope, depth):
        kind = self.pick(["bool", "int", "text", "decimal", "float", "date", "delta", "level"])
        return self.path(scope, "values", kind) or unavailable(kind)

    def _any(self, scope, depth):
        if self.chance(3):
            found = self.path(scope, "references")
            if found is not None:
                return found
        kind = self.pick(COMPARED)
        found = self.dependent(kind, scope, depth)
        return found if self.is_dependent(found, scope) else self.parameter(kind, nullable=True)

    def _equal_parameter(self, scope, depth):
        kind = self.pick(COMPARED)
        left = self.dependent(kind, scope, depth)
        return f"{left} {self.pick(ORDERED[:2])} {self.parameter(kind, nullable=True)}"

    def _listed(self, scope, depth):
        kind = self.pick(["int", "text", "decimal", "date", "level"])
        items = [self.expression(kind, scope, depth - 1) for _ in range(1 + self._draw(2))]
        items += ["None"] * self.chance(4)
        left, brackets = self.dependent(kind, scope, depth), self.pick(["()", "[]", "{}"])
        last = "," if brackets == "()" and len(items) == 1 else ""
        return f"{left} {self.pick(['in', 'not in'])} {brackets[0]}{', '.join(items)}{last}{brackets[1]}"

    def _listed_parameter(self, scope, depth):
        kind = self.pick(["int", "text", "decimal", "date", "level"])
        name = self.parameter(f"{kind}s")
        return f"{self.dependent(kind, scope, depth)} {self.pick(['in', 'not in'])} {name}"

    def _user(self, scope, depth):
        return self.object(scope, "User") or unavailable("a user")

    def _subclass(self, scope, depth):
        return self.pick(["Manager", "Chief", "User", "(Chief, Manager)"])

    def _same_object(self, scope, depth):
        entity = self.pick(["User", "Company", "Category", "Seat", "Product"])
        left = self.object(scope, entity)
        if left is None:
            unavailable(entity)
        right = self.object(scope, entity) if self._draw(1) else self.parameter(entity, nullable=True)
        if self.chance(4):
            return f"{left} {self.pick(['in', 'not in'])} {self.parameter(entity + 's')}"
        return f"{left} {self.pick(ORDERED[:2])} {right}"

    def _json(self, scope, depth):
        return self.fill(self.pick(JSON), scope, min(depth, 0))

    # --- collections and other queries ------------------------------------------------------------------

    def collection(self, scope, target=None):
        """Return a path to a collection and the entity in it; None if there is none, or none of *target*."""
        found = [
            (variable + way, items)
            for variable, entity in scope
            for way, (items, _) in PATHS[entity, "collections"]
            if way.count(".") <= 2 and target in {None, items}
        ]
        return self.pick(found) if found else None

    def outside(self):
        """Return a collection of an object that Python knows, and the entity in it."""
        owner = self.pick(OWNERS)
        name, (target, _) = self.pick(list(attributes(owner, "collections").items()))
        return f"{self.parameter(owner)}.{name}", target

    def source(self, scope):
        """Return what a ``for`` ranges over, and its entity."""
        if self.chance(12):
            return self.outside()
        if self.chance(12):
            entity = self.pick(list(TABLES))
            return self.query_of_class(entity, 0), entity
        found = self.collection(scope) if not self.chance(4) else None
        entity = self.pick(list(TABLES)) if found is None else found[1]
        return (entity if found is None else found[0]), entity

    def loop(self, scope, depth, element):
        """Return a generator expression over a collection or an entity; *element(scope)* writes what it gives."""
        source, entity = self.source(scope)
        inner = [(self.variable(entity), entity)]
        clauses = f"for {inner[0][0]} in {source}"
        if self.chance(5):
            more = self.collection(inner)
            if more is not None:
                inner.append((self.variable(more[1]), more[1]))
                clauses += f" for {inner[1][0]} in {more[0]}"
        if self._draw(2):
            clauses += f" if {self.expression('condition', [*reversed(inner), *scope], depth - 1)}"
        return f"{element([*reversed(inner), *(scope if self.chance(4) else ())])} {clauses}"

    def _collection(self, scope, depth):
        found = self.collection(scope)
        return found[0] if found is not None else f"select({self._objects(scope, depth)})"

    def _objects(self, scope, depth):
        found = self.collection(scope)
        if found is not None and not self._draw(1):
            return found[0]
        return self.loop(scope, depth, lambda inner: inner[0][0])

    def many(self, scope, depth, kind):
        """Return many values of the type *kind*: a path through a collection, or a generator expression."""
        found = self.collection(scope)
        if found is not None and not self._draw(1):
            ways = [way for way, what in PATHS[found[1], "values"] if what == kind and way.count(".") == 1]
            if ways:
                return found[0] + self.pick(ways)
        return self.loop(scope, depth, lambda inner: self.expression(kind, inner, depth - 1))

    def _values(self, scope, depth):
        return self.many(scope, depth, self.pick(["int", "text", "decimal"]))

    def _conditions(self, scope, depth):
        return self.loop(scope, depth, lambda inner: self.expression("condition", inner, depth - 1))

    def _ints(self, scope, depth):
        return self.many(scope, depth, "int")

    def _floats(self, scope, depth):
        return self.many(scope, depth, "float")

    def _decimals(self, scope, depth):
        return self.many(scope, depth, "decimal")

    def _texts(self, scope, depth):
        return self.many(scope, depth, "text")

    def _dates(self, scope, depth):
        return self.many(scope, depth, "date")

    def _deltas(self, scope, depth):
        return self.many(scope, depth, "delta")

    def _extreme(self, scope, depth):
        source, entity = self.source(scope)
        inner = self.variable(entity)
        number = self.path([(inner, entity)], "values", "int") or unavailable("an int")
        return f"{self.pick(['max', 'min', 'count'])}({number}) for {inner} in {source}"

    def _datetimes(self, scope, depth):
        return self.many(scope, depth, "datetime")

    def _in_collection(self, scope, depth):
        found = self.collection(scope)
        if found is None:
            unavailable("a collection")
        left = self.object(scope, found[1])
        if left is not None and self.chance(3):
            path, target = self.outside()
            return f"{self.object(scope, target) or self.parameter(target)} {self.pick(['in', 'not in'])} {path}"
        left = left or self.parameter(found[1])
        return f"{left} {self.pick(['in', 'not in'])} {found[0]}"

    def _in_values(self, scope, depth):
        kind = self.pick(["int", "text", "decimal"])
        many = self.many(scope, depth, kind)
        many = f"({many})" if " for " in many else many
        return f"{self.expression(kind, scope, depth)} {self.pick(['in', 'not in'])} {many}"

    def _in_query(self, scope, depth):
        variable, entity = self.pick(scope)
        inner = self.variable(entity)
        condition = self.expression("condition", [(inner, entity)], depth)
        return f"{variable} {self.pick(['in', 'not in'])} select({inner} for {inner} in {entity} if {condition})"

    def query_of_class(self, entity, depth):
        """Return a query made by a class, with a lambda."""
        inner = self.variable(entity)
        return f"{entity}.select(lambda {inner}: {self.expression('condition', [(inner, entity)], depth)})"

    def _in_query_of_class(self, scope, depth):
        variable, entity = self.pick(scope)
        return f"{variable} {self.pick(['in', 'not in'])} {self.query_of_class(entity, depth)}"
