"""Runs programs: on a database, through dbsession, and in plain Python; and compares what they give."""

from __future__ import annotations

import builtins
import itertools
import linecache
import logging
import math
from decimal import Decimal

import dbsession
from dbsession import Query, db_session
from tests.differential.aggregates import Joined
from tests.differential.evaluator import Evaluator
from tests.differential.loops import Loops
from tests.differential.programs import GLOBALS, Key
from tests.differential.rows import Row, fill, world
from tests.differential.schema import declare, lineage
from tests.differential.values import Untyped

__all__ = ["Runner", "difference"]

FUNCTIONS = [
    "avg", "between", "coalesce", "concat", "count", "desc", "distinct", "exists", "get", "group_concat", "left_join", "max", "min",
    "select", "sum",
]  # fmt: skip

numbers = itertools.count(1)


class Runner:
    """One database with the rows, and the same rows in plain Python."""

    def __init__(self, db):
        self.db = db
        self.entities = declare(db)
        fill(self.entities)
        self.world = world()
        self.nulls_first = db.backend.dialect.name == "sqlite"

    def expected(self, program, values):
        """Return what the program gives in plain Python: a `Loops` or a value."""
        names = GLOBALS | {name: self._as(self._row, value) for name, value in values.items()}
        return Evaluator(self.world, names, nulls_first=self.nulls_first).run(program.text)

    def actual(self, function, values):
        """Return what the program gives on the database: a list of results or a value."""
        with db_session:
            found = function(**{name: self._as(self._object, value) for name, value in values.items()})
            return list(found) if isinstance(found, Query) else found

    def function(self, program, builtin=()):
        """Return the program as a function with a source; the functions named in *builtin* are Python's."""
        builtin = set(builtin) - {program.text.partition("(")[0]}  # Python's own would make no query of it
        names = {name: getattr(builtins if name in builtin else dbsession, name) for name in FUNCTIONS}
        return compiled(program.text, [each.name for each in program.parameters], GLOBALS | names | vars(self.entities))

    def log(self, function, values):
        """Run again, and return the SQL that was sent."""
        sent = []
        handler = logging.Handler()
        handler.emit = lambda record: sent.append(record.getMessage())
        logger = logging.getLogger("dbsession.sql")
        logger.addHandler(handler)
        before = logger.level, logger.propagate
        logger.setLevel(logging.INFO)
        logger.propagate = False
        try:
            with db_session(sql_debug=True, show_values=True):
                found = function(**{name: self._as(self._object, value) for name, value in values.items()})
                list(found) if isinstance(found, Query) else found
        except Exception as error:
            sent.append(f"{type(error).__name__}: {error}")
        finally:
            logger.removeHandler(handler)
            logger.level, logger.propagate = before
        return "\n".join(sent)

    def _as(self, convert, value):
        if isinstance(value, list):
            return [self._as(convert, item) for item in value]
        return convert(value) if isinstance(value, Key) else value

    def _row(self, wanted):
        return next(row for row in self.world[wanted.entity] if row.key == wanted.key)

    def _object(self, wanted):
        key = wanted.key if len(wanted.key) > 1 else wanted.key[0]
        return getattr(self.entities, wanted.entity)[key]


def compiled(text, parameters, names):
    """Return a function of *parameters* that returns *text*, whose source can be found."""
    source = f"def program({', '.join(parameters)}):\n    return {text}\n"
    filename = f"<differential {next(numbers)}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    namespace = dict(names)
    exec(compile(source, filename, "exec", dont_inherit=True), namespace)
    return namespace["program"]


# --- comparing ------------------------------------------------------------------------------------------


def difference(expected, actual):
    """Return what is wrong with *actual*, or nothing."""
    if not isinstance(expected, Loops):
        return "" if same(expected, actual) else f"expected {expected!r}"
    blocks, place = expected.chosen(), 0
    for block, count in blocks:
        part = actual[place : place + count]
        place += count
        if len(part) < count or not contains(block, part):
            return f"expected {count} of {block!r}, in order" if len(blocks) > 1 else f"expected {block!r}"
    return "" if place == len(actual) else f"expected {place} results"


def contains(block, part):
    """Tell whether each result of *part* is another one of those in *block*."""
    left = list(block)
    for value in part:
        place = next((place for place, other in enumerate(left) if same(other, value)), None)
        if place is None:
            return False
        del left[place]
    return True


def same(expected, actual):
    """Tell whether *actual*, which dbsession gave, is what was *expected*; the type has to be the same, too."""
    if isinstance(expected, tuple):
        return isinstance(actual, tuple) and len(expected) == len(actual) and all(map(same, expected, actual))
    if isinstance(expected, Row):  # one that is known by a reference alone may still be of the reference's class
        return type(actual).__name__ in lineage(expected.entity) and identity(expected) == identity(actual)
    if isinstance(expected, Joined):
        return isinstance(actual, str) and sorted(actual.split(expected.separator)) == expected.parts()
    if isinstance(expected, Untyped):
        return type(actual) in {int, float, Decimal} and actual == expected
    if isinstance(expected, float):
        return type(actual) is float and math.isclose(expected, actual, rel_tol=1e-9, abs_tol=1e-12)
    if isinstance(expected, dict | list):
        return expected == actual and not isinstance(actual, str)
    return type(expected) is type(actual) and expected == actual


def identity(obj):
    """Return what tells *obj*, plain or of dbsession, from all others."""
    if isinstance(obj, Row):
        return lineage(obj.entity)[-1], obj.key
    key = obj.get_pk()
    return lineage(type(obj).__name__)[-1], key if isinstance(key, tuple) else (key,)
