"""Random deletes and updates in bulk leave in the tables, and in memory, what plain Python says."""

from __future__ import annotations

import ast
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from dbsession import db_session, rollback
from tests.differential.evaluator import Evaluator
from tests.differential.grammar import Program
from tests.differential.programs import GLOBALS, ProgramWriter, draw_values
from tests.differential.running import Runner, same
from tests.differential.schema import attributes
from tests.differential.test_differential import choices_of
from tests.differential.values import Undefined

EXAMPLES = 100

# What is set in bulk, and what may not be NULL.
CHANGED = {
    "Booking": {"note": "text", "day": "date"},
    "Order": {"quantity": "int", "weight": "float", "due": "date", "placed": "datetime", "total": "decimal"},
}
REQUIRED = {"quantity"}
COLUMNS = {"decimal": Decimal, "float": float}  # what they make of an int


def change(choices):
    """Return a query for objects, what is done to them, and the values that both are given."""
    number = choices_of(choices)
    writer = ProgramWriter(number)
    entity = writer.pick(list(CHANGED))
    variable = writer.variable(entity)
    clauses = f"for {variable} in {entity}"
    if writer.chance(4):
        owner = writer.variable("User")
        clauses = f"for {owner} in User for {variable} in {owner}.{'orders' if entity == 'Order' else 'bookings'}"
    condition = writer.expression("condition", [(variable, entity)], 3)
    query = f"select({variable} {clauses} if {condition})"
    assigned = {}
    verb = writer.pick(["delete()", "delete(bulk=True)", "update", "update"])
    if verb == "update":
        for name in CHANGED[entity]:
            if not assigned or writer.chance(3):
                kind = CHANGED[entity][name]
                assigned[name] = writer.expression(kind, [(variable, entity)], 2)
        verb = f"update({', '.join(f'{name}=lambda {variable}: {text}' for name, text in assigned.items())})"
    parameters = [each for each in writer.parameters if f"{each.name}" in query + verb]
    program = Program(f"{query}.{verb}", parameters)
    return entity, variable, query, assigned, program, draw_values(program, number)


def expected(runner, entity, variable, query, assigned, values):
    """Return what the table of *entity* has afterwards: its values by key, and how many rows are concerned."""
    names = GLOBALS | {name: runner._as(runner._row, value) for name, value in values.items()}
    evaluator = Evaluator(runner.world, names, nulls_first=runner.nulls_first)
    concerned = evaluator.run(query).results()
    table = {
        row.key: {name: getattr(row, name) for name in attributes(entity, "values")} for row in runner.world[entity]
    }
    for row in concerned:
        if not assigned:
            del table[row.key]
        for name, text in assigned.items():
            value = evaluator.value(ast.parse(text, mode="eval").body, {variable: row})
            if (name in REQUIRED and value is None) or (isinstance(value, Decimal) and value != round(value, 2)):
                raise Undefined("the column does not take it as it is")
            column = COLUMNS.get(CHANGED[entity][name])
            table[row.key][name] = value if column is None or value is None else column(value)
    return table, len(concerned)


def actual(runner, entity, function, values):
    """Return the same from the database, and from the objects that were in memory before."""
    given = {name: runner._as(runner._object, value) for name, value in values.items()}
    known = getattr(runner.entities, entity).select().fetch()
    count = function(**given)
    found = getattr(runner.entities, entity).select().fetch()
    left = {(obj.get_pk(),): {name: getattr(obj, name) for name in attributes(entity, "values")} for obj in found}
    rollback()
    kept = {(obj.get_pk(),): obj for obj in known}
    assert all(kept[key] in found for key in left)
    return left, count


def test_changes_in_bulk_are_those_of_python(db):
    """delete() and update() change the rows that the query has, and no others, in the table and in memory."""
    runner = Runner(db)
    compared = set()

    @seed(1)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.binary(min_size=64, max_size=256).map(change))
    def run(drawn):
        entity, variable, query, assigned, program, values = drawn
        try:
            table, count = expected(runner, entity, variable, query, assigned, values)
        except Undefined:
            return
        with db_session:
            left, changed = actual(runner, entity, runner.function(program), values)
        wrong = {key for key in {*table, *left} if not alike(table.get(key), left.get(key))}
        if wrong or changed != count:
            pytest.fail(f"{program.text}\n{values}\nexpected {count}: {table}\ngot {changed}: {left}", pytrace=False)
        compared.add(program.text)

    run()
    assert len(compared) > 0.7 * EXAMPLES


def alike(expected, actual):
    """Tell whether two rows have the same values."""
    return None not in (expected, actual) and all(same(expected[name], actual[name]) for name in expected)
