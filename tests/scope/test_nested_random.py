"""Random programs of nested scopes: after each step memory equals a model, after each commit the database does.

``DBSESSION_TEST_PROGRAMS=5000`` runs that many, others than the usual ones (it is meant for SQLite). A program
that fails is reduced to the steps that it takes, and shown with the number that makes it.
"""

import os
import random

import pytest

from tests.scope.league import declare, fill
from tests.scope.programs import VERBS, Program

WANTED = int(os.environ.get("DBSESSION_TEST_PROGRAMS", "0"))


def program(number):
    """Return the steps of a program: some verbs only, since a program of all of them finds less."""
    draw = random.Random(number)
    verbs = [*draw.sample(VERBS, draw.randint(6, len(VERBS))), "join", "leave"]
    size = draw.randint(5, 70)
    return [(draw.choice(verbs), draw.randint(0, 20), draw.randint(0, 20), draw.randint(0, 2)) for _ in range(size)]


def failure(db, steps):
    """Run *steps* on fresh rows, and return what went wrong."""
    try:
        Program(db, fill(db)).run(steps)
    except Exception as error:
        return error
    return None


def reduced(db, steps, kind):
    """Leave out what the failure does not need."""
    size = len(steps) // 2
    while size:
        place = 0
        while place < len(steps):
            fewer = steps[:place] + steps[place + size :]
            if type(failure(db, fewer)) is kind:
                steps = fewer
            else:
                place += size
        size //= 2
    return steps


def test_memory_and_database_follow_a_model(db):
    """75-77, 82, 83. Scopes within scopes that end well or fail, whatever is done in them."""
    declare(db)
    usual = range(600 if db.backend.dialect.name == "sqlite" else 60)
    for number in range(100_000, 100_000 + WANTED) if WANTED else usual:
        error = failure(db, program(number))
        if error is not None:
            steps = reduced(db, program(number), type(error))
            pytest.fail(f"program {number}, {steps}: {failure(db, steps) or error!r}")
