"""Random queries give on every database what plain Python gives over the same rows, with SQL's NULL rules.

Each database runs the same `PARTS` each time. ``DBSESSION_TEST_EXPRESSIONS=20000`` asks for that many in each part, and for one
part more with a seed of its own each time, which the failure names; ``DBSESSION_TEST_SEED=7`` repeats such a part.
"""

from __future__ import annotations

import os
import random

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.differential.loops import Loops
from tests.differential.programs import draw_program, draw_values
from tests.differential.running import Runner, difference
from tests.differential.values import Undefined

PARTS = range(4)
EXAMPLES = int(os.environ.get("DBSESSION_TEST_EXPRESSIONS", "600"))
IS_LONG = bool(os.environ.keys() & {"DBSESSION_TEST_EXPRESSIONS", "DBSESSION_TEST_SEED"})
FRESH = int(os.environ.get("DBSESSION_TEST_SEED", "0")) or random.SystemRandom().randrange(10**6, 10**9)


def choices_of(data):
    """Return what draws a number from 0 to the one it is given: each is one byte of *data*, and 0 once that is used up."""
    left = iter(data)
    return lambda most: next(left, 0) % (most + 1) if most else 0


def case(data):
    """Return a program and the values that it is given, two times."""
    number = choices_of(data)
    program = draw_program(number)
    return program, [draw_values(program, number) for _ in range(2 if program.parameters else 1)]


# One piece of data, rather than a number for each choice, of which hypothesis would make variations of few programs.
CASES = st.binary(min_size=64, max_size=256).map(case)


class Different(AssertionError):
    """A program that gave something else than Python: *program*, *values*, what is wrong, and what it gave."""


def check(runner, program, runs, builtin):
    """Run the program on the database and in Python; return in how many of the *runs* they could be compared."""
    function, compared = runner.function(program, builtin), 0
    for values in runs:
        try:
            expected = runner.expected(program, values)
            if isinstance(expected, Loops):
                expected.chosen()
        except Undefined:
            continue
        compared += 1
        try:
            actual = runner.actual(function, values)
            wrong = difference(expected, actual)
        except Exception as error:
            wrong, actual = "no error was expected", error
        if wrong:
            raise Different(program, values, wrong, actual)
    return compared


def shown(runner, program, values, wrong, actual):
    """Return what somebody who is to mend a difference wants to know."""
    log = runner.log(runner.function(program), values)
    return f"{program.text}\nwith {values}\n{log}\n{wrong}\ngot {actual!r}"


@pytest.mark.parametrize("part", [*PARTS, "fresh"] if IS_LONG else PARTS)
def test_queries_give_what_python_gives(db, part):
    """A query over rows with NULLs has the results of the loops that it is written as."""
    runner = Runner(db)
    number = FRESH if part == "fresh" else part
    texts = set()

    @seed(number)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(CASES)
    def run(drawn):
        program, runs = drawn
        if check(runner, program, runs, {"sum", "min", "max"} if number % 2 else ()):
            texts.add(program.text)

    try:
        run()
    except Different as found:  # the smallest one
        pytest.fail(f"seed {number}: {shown(runner, *found.args)}", pytrace=False)
    assert len(texts) >= EXAMPLES * 5 // 6  # some are not compared: see `Undefined`
