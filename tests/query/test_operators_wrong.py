"""What operators refuse: each mistake names the operand, what it is, and what would do; nothing is sent."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from uuid import UUID

import pytest

from dbsession import Database, Json, Optional, Set, db_session
from dbsession.model.expressions import Operation
from dbsession.query.operators import OPERATORS
from dbsession.query.selected import Selected
from dbsession.query.tree import RawSql, Slot


class Colour(Enum):
    RED = "r"


@pytest.fixture(params=["sqlite", "postgresql"], scope="module")
def T(request):
    """An entity of a database that is never connected to: what is refused is refused before."""
    db = Database("sqlite://" if request.param == "sqlite" else "postgresql://nobody@nowhere.invalid/nothing")

    class T(db.Entity):
        i = Optional(int)
        f = Optional(float)
        d = Optional(Decimal)
        t = Optional(str)
        b = Optional(bool)
        day = Optional(date)
        at = Optional(datetime)
        key = Optional(UUID)
        data = Optional(bytes)
        doc = Optional(Json)
        colour = Optional(Colour)
        owner = Optional("T", reverse="owned")
        owned = Set("T", reverse="owner")
        other = Optional("Other")

    class Other(db.Entity):
        ts = Set(T)

    db.generate_mapping(check_tables=False)
    yield T
    assert db.counters.connections == 0
    db.close()


# An expression, and what the error says.
WRONG = {
    # comparisons
    "O('=', T.i, T.t)": r"T\.i is an int, and T\.t is a str: values of one type can be compared",
    "O('<', T.t, T.i)": r"T\.t is a str, and T\.i is an int",
    "O('=', T.i + 1, 'x')": r"T\.i \+ 1 is an int, and 'x' is a str",
    "O('=', O('upper', T.t), 5)": r"upper\(T\.t\) is a str, and 5 is an int",
    "O('=', T.i, 'x')": r"T\.i must be an int, not str",
    "O('=', T.i > 1, 'x')": r"T\.i > 1 is a condition, and 'x' is a str",
    "O('=', T.b, T.i)": r"T\.b is a bool, and T\.i is an int",
    "O('=', T.i > 1, T.i)": r"T\.i > 1 is a condition, and T\.i is an int",
    "O('=', T.colour, T.t)": r"T\.colour is a Colour, and T\.t is a str",
    "O('=', T.owner, T.other)": r"T\.owner is a T, and T\.other is an Other",
    "O('=', T.owner, T.t)": r"T\.owner is a T, and T\.t is a str",
    "O('=', T.key, T.t)": r"T\.key is a UUID, and T\.t is a str",
    "O('<', T.i, None)": "None cannot be compared with <",
    "O('>=', None, T.i)": "None cannot be compared with <=",
    "O('<', T.owner, T.owner)": "are objects, which have no order; compare their attributes",
    "O('between', T.i, 1, None)": "between.. takes two values, and None is none",
    "O('between', T.i, 1, T.t)": r"T\.i is an int, and T\.t is a str",
    # in
    "O('in', T.i, (1, T.t))": r"T\.i is an int, and T\.t is a str",
    "O('in', T.i + 1, (1, 'x'))": r"T\.i \+ 1 is an int, and 'x' is a str",
    "O('in', T.i, Slot(0, [1, 'x']))": r"T\.i must be an int",
    "O('in', T.i, T.t)": r"T\.i in T\.t: `in` looks into lists, subqueries, collections and texts",
    "O('in', T.t, T.i)": r"and T\.i is an int",
    "O('in', 5, T.t)": r"5 in T\.t: `in` looks into",
    "O('in', T.i, 5)": r"and 5 is an int",
    # arithmetic
    "O('+', T.i, T.t)": r"T\.t is no number: \+ takes numbers",
    "O('+', T.t, 5)": r"T\.t is no number: \+ takes numbers; str\(\) makes text of a number",
    "O('*', T.t, 3)": r"T\.t is no number: \* takes numbers",
    "O('%', T.t, (1,))": r"T\.t is no number: % takes numbers",
    "O('+', T.i, None)": r"None is no number: \+ takes numbers",
    "O('+', T.i, Slot(0, None))": r"None is no number",
    "O('+', T.b, 1)": r"T\.b is no number: \+ takes numbers; int\(\) makes a number of it",
    "O('-', T.i > 1, 1)": r"T\.i > 1 is a condition, and no value: - takes numbers; write int\(\.\.\.\)",
    "O('/', T.i, True)": r"True is no number: / takes numbers",
    "O('+', T.owner, 1)": r"T\.owner is no number",
    "O('neg', T.t)": r"T\.t is no number: - takes numbers",
    "O('abs', T.t)": r"T\.t is no number: abs\(\) takes numbers",
    "O('round', T.t)": r"T\.t is no number: round\(\) takes numbers",
    "O('round', T.f, 1.5)": r"round\(\) takes a whole number of digits, not 1\.5",
    "O('**', T.t, 2)": r"T\.t is no number: \*\* takes numbers",
    **{
        f"O({name!r}, T.d, T.f)": "takes no Decimal together with a float, as in Python: make one of them the other"
        for name in ("+", "-", "*", "/", "//", "%", "**")
    },
    "O('*', T.d, 1.5)": r"\* takes no Decimal together with a float",
    "O('max2', T.i, T.t)": r"T\.i is an int, and T\.t is a str: max\(\) takes values of one type",
    "O('min2', T.i, None)": r"min\(\) takes values, and None is none; write coalesce\(\.\.\.\) around what may be None",
    "O('max2', T.d, T.f)": r"max\(\) takes no Decimal together with a float",
    # text
    "O('upper', T.i)": r"upper\(\) is for text, and T\.i is an int",
    "O('lower', T.i + 1)": r"lower\(\) is for text, and T\.i \+ 1 is an int",
    "O('lower', T.i > 1)": r"lower\(\) is for text, and T\.i > 1 is a bool",
    "O('strip', T.data)": r"strip\(\) is for text, and T\.data is bytes",
    "O('strip', T.t, 5)": r"strip\(\) is for text, and 5 is an int",
    "O('startswith', T.t, 5)": r"startswith\(\) is for text, and 5 is an int",
    "O('startswith', T.t, None)": r"startswith\(\) is for text, and None is None",
    "O('endswith', T.t, ('a', 5))": r"endswith\(\) is for text, and 5 is an int",
    "O('contains', T.i, 'x')": r"contains\(\) is for text, and T\.i is an int",
    "O('len', T.i)": r"len\(\) is for text, bytes and collections, and T\.i is an int",
    "O('slice', T.i, 1, 2)": r"a slice\(\) is for text, and T\.i is an int",
    "O('slice', T.t, 'a', 2)": r"a slice of a text takes ints, and 'a' is a str",
    "O('slice', T.t, None, T.t)": r"a slice of a text takes ints, and T\.t is a str",
    "O('item', T.t, 'a')": r"an index of a text takes ints, and 'a' is a str",
    "O('item', T.i, 0)": r"T\.i is an int, and has no items",
    "O('item', T.t, None)": r"a character has a number",
    # conversions
    "O('str', T.colour)": r"T\.colour is a Colour, and no database makes the text of it that Python does",
    "O('concat', T.t, T.owner)": r"T\.owner is a T, and no database makes the text",
    "O('int', T.day)": r"int\(\) takes a number, a text or a bool, and T\.day is a date",
    "O('float', T.owner)": r"float\(\) takes a number, a text or a bool, and T\.owner is a T",
    # one or the other
    "O('coalesce', T.i, 'x')": r"T\.i is an int, and 'x' is a str: coalesce\(\) takes values of one type",
    "O('coalesce', T.i + 1, 'x')": r"T\.i \+ 1 is an int, and 'x' is a str: coalesce\(\) takes values of one type",
    "O('coalesce', T.i, T.t)": r"coalesce\(\) takes values of one type",
    "O('if', T.b, T.i, T.t)": r"T\.i is an int, and T\.t is a str: a conditional expression takes values of one type",
    "O('if', T.b, T.d, T.f)": r"a conditional expression takes no Decimal together with a float",
    "O('if', T.i, 1, 2)": r"T\.i is no condition",
    "O('and', T.i, T.b)": r"T\.i is no condition; compare it with something",
    "O('not', T.t)": r"T\.t is no condition",
    # aggregates
    "O('sum', T.t)": r"sum\(\) takes numbers, and T\.t is a str",
    "O('sum', T.day)": r"sum\(\) takes numbers.*T\.day is a date",
    "O('avg', T.b)": r"avg\(\) takes numbers, and T\.b is a bool",
    "O('min', T.owner)": r"min\(\) takes what has an order, and T\.owner is a T",
    "O('max', T.data)": r"max\(\) takes what has an order, and T\.data is bytes",
    "O('group_concat', T.t, 5)": r"group_concat\(\) takes a text to put between, not 5",
    "O('group_concat', T.owner)": r"T\.owner is a T, and no database makes the text",
    "O('exists', T.i)": r"exists\(\) takes a collection or a query, not T\.i",
    "O('isinstance', T.i, (T,))": r"isinstance\(\) takes an object of an entity, and T\.i is an int",
    # deep in a tree
    "O('>', O('+', O('len', O('upper', T.i)), 1), 5)": r"upper\(\) is for text, and T\.i is an int",
}


@pytest.mark.parametrize("source", WRONG)
def test_what_is_refused(T, source):
    """The message names the operand and what it is."""
    node = eval(source, {"O": Operation, "T": T, "Slot": Slot})
    selected = Selected.of(T._mapping_).replace(result=node)
    with db_session, pytest.raises(TypeError, match=WRONG[source]):
        type(T.select())(selected, T.select()._runner, (5,)).get_sql()


RIGHT = ["O('=', T.i, T.d)", "O('=', T.i, 5.5)", "O('=', RawSql(('1',), ()), T.t)", "O('+', RawSql(('1',), ()), 1)"]


@pytest.mark.parametrize("source", RIGHT)
def test_what_is_not_refused(T, source):
    """Self-test; and SQL of the user's own, of which nothing is known, fits everywhere."""
    node = eval(source, {"O": Operation, "T": T, "RawSql": RawSql})
    selected = Selected.of(T._mapping_).replace(result=node)
    with db_session:
        assert type(T.select())(selected, T.select()._runner).get_sql().startswith("SELECT ")


def test_paths_are_named(T):
    """A path is named as it is written."""
    node = Operation("upper", T.owner.other.id)
    selected = Selected.of(T._mapping_).replace(result=node)
    with db_session, pytest.raises(TypeError, match=r"upper\(\) is for text, and T\.owner\.other\.id is an int"):
        type(T.select())(selected, T.select()._runner).get_sql()


def test_every_operator_has_a_kind(T):
    """Of each operator there are the SQL, and what comes out of it."""
    for name, operator in OPERATORS.items():
        assert callable(operator.render) and callable(operator.kind), name
