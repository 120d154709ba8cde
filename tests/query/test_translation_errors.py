"""What cannot be translated: the error names the expression, its line, and what to write instead."""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from dbsession import (
    Database,
    Required,
    TranslationError,
    coalesce,
    count,
    delete,
    desc,
    distinct,
    exists,
    get,
    group_concat,
    left_join,
    max,
    random,
    raw_sql,
    select,
    sum,
)
from tests.query.office import define
from tests.query.trees import narrowed, ordered

db = define(Database("sqlite://"), create_tables=False)
Person, Manager, Order = map(db.entities.get, ("Person", "Manager", "Order"))

PAIRS = select((p.name, p.age) for p in Person).limit(3)
AGES = select(p.age for p in Person).limit(3)


def refused(call: Any) -> tuple[str, str]:
    """Return the expression that the error names, and why it cannot be translated."""
    with pytest.raises(TranslationError) as caught:
        call()
    found = re.fullmatch(
        r"cannot translate `(.*)` \(test_translation_errors\.py, line (\d+)\): (.*)", str(caught.value)
    )
    assert found, str(caught.value)
    return found[1], found[3]


# Each: the query, the expression that the error names, a part of what it says.
CASES: list[tuple[Any, str, str]] = [
    # names
    (lambda: select(p for p in Person if p.nmae == "x"), "p.nmae", "Person has no attribute 'nmae'; did you mean 'name'?"),
    (lambda: select(p.ordres for p in Person), "p.ordres", "did you mean 'orders'?"),
    (lambda: select(p.boss.nmae for p in Person), "p.boss.nmae", "did you mean 'name'?"),
    (lambda: select(p for p in Person if p._state_), "p._state_", "has no attribute '_state_'"),
    (lambda: select(p for p in Person if Person.age > 3), "Person.age > 3", "here write the loop variable"),
    (lambda: select(p for p in Person if p.age > Person.age), "Person.age", "write the loop variable, as in p.age for p in Person"),
    (lambda: select(p for p in Person if p.orders.total > Order.total), "Order.total", "write the loop variable"),
    (lambda: select(getattr(p, p.name) for p in Person), "p.name", "the name of an attribute has to be known to Python"),
    (lambda: select(getattr(p, "nmae") for p in Person), 'getattr(p, "nmae")', "did you mean 'name'?"),
    # kinds of operands
    (lambda: select(p for p in Person if p.age.upper() == "X"), "p.age.upper()", "upper() is for text"),
    (lambda: select(p.name + 3 for p in Person), "p.name + 3", "p.name is no number"),
    (lambda: select(p for p in Person if 1 < p.age + p.name < 3), "p.age + p.name", "p.name is no number"),
    (lambda: select(p for p in Person if p.age in 5), "p.age in 5", "`in` looks into texts, lists, queries and collections"),
    (lambda: select(p for p in Person if p.orders.total > 5), "p.orders.total > 5", "take sum(), max(), count() of them"),
    (lambda: select(p for p in Person if p.age == select(q.age for q in Person)), "p.age == select(q.age for q in Person)", "many values"),
    (lambda: select(p.orders + 1 for p in Person), "p.orders + 1", "many values"),
    (lambda: select(p for p in Person if (p.name, p.age) < ("x", 1)), '(p.name, p.age) < ("x", 1)', "by == and !="),
    (lambda: select(p for p in Person if (p.name, p.age) == 3), "(p.name, p.age) == 3", "a tuple can be compared with a tuple"),
    (lambda: select((p.name, p.age) + (1,) for p in Person), "(p.name, p.age) + (1,)", "a tuple"),
    (lambda: select(p for p in Person if p.name is p.nick), "p.name is p.nick", "compare values with =="),
    (lambda: select(p for p in Person if p.is_active is True), "p.is_active is True", "compare values with =="),
    (lambda: select(p for p in Person if isinstance(p.name, str)), "isinstance(p.name, str)", "whose type is known"),
    (lambda: select(p for p in Person if isinstance(p, str)), "str", "takes an entity, or a tuple of entities"),
    (lambda: select(p for p in Person if p.boss > p), "p.boss > p", "objects can be compared by == and looked for with in"),
    (lambda: select(p.boss if p.age > 3 else None for p in Person), "p.boss if p.age > 3 else None", "take an attribute of them"),
    (lambda: select(coalesce(p.boss, p) for p in Person), "coalesce(p.boss, p)", "take an attribute of them"),
    (lambda: select(p for p in Person if (p.name, p.age) in PAIRS), "(p.name, p.age) in PAIRS", "a tuple cannot be looked for in a query"),
    # operators and syntax
    (lambda: select(p.age @ 2 for p in Person), "p.age @ 2", "no counterpart in the database"),
    (lambda: select(p for p in Person if (p.age > 1) & (p.age < 3)), "(p.age > 1) & (p.age < 3)", "combine conditions with and"),
    (lambda: select(p for p in Person if (p.age > 1) | (p.age < 3)), "(p.age > 1) | (p.age < 3)", "combine conditions with or"),
    (lambda: select(p for p in Person if ~(p.age > 1)), "~(p.age > 1)", "here write not"),
    (lambda: select(p for p in Person if (age := p.age) > 3), "age := p.age", "a query assigns nothing"),
    (lambda: select((lambda x: x)(p) for p in Person), "(lambda x: x)(p)", "a function with a name"),
    (lambda: select((p, lambda: p.age) for p in Person), "lambda: p.age", "a lambda is no value"),
    (lambda: select([p.name, p.age] for p in Person), "[p.name, p.age]", "write a tuple"),
    (lambda: select({"name": p.name} for p in Person), '{"name": p.name}', "select a tuple"),
    (lambda: select({o: 1 for o in p.orders} for p in Person), "{o: 1 for o in p.orders}", "select a tuple"),
    (lambda: select(((p.name, p.age), p.nick) for p in Person), "(p.name, p.age)", "no tuples within a tuple"),
    (lambda: select(abs(*[p.age]) for p in Person), "*[p.age]", "written one by one"),
    (lambda: select(round(p.age, **{}) for p in Person), "round(p.age, **{})", "without **"),
    (lambda: select(p for p in Person if p.name in (*"ab", p.nick)), "*'ab'", "write the parts one by one"),
    # texts
    (lambda: select(f"{p.age:>10}" for p in Person), None, "format the result, or round() the number"),
    (lambda: select(f"{p.name!r}" for p in Person), None, "leave them out"),
    (lambda: select("%s!" % p.name for p in Person), '"%s!" % p.name', "with an f-string"),
    (lambda: select("{}!".format(p.name) for p in Person), '"{}!".format(p.name)', "write an f-string"),
    (lambda: select("-".join(p.name) for p in Person), '"-".join(p.name)', "group_concat() for many rows"),
    (lambda: select(p.name[::2] for p in Person), "p.name[::2]", "a slice with a step"),
    (lambda: select(p.name.contains("x") for p in Person), 'p.name.contains("x")', 'write "..." in x'),
    (lambda: select(p.name.uper() for p in Person), "p.name.uper()", "did you mean 'upper'?"),
    (lambda: select(p.name.upper for p in Person), "p.name.upper", "write upper()"),
    (lambda: select(p.name.upper(1) for p in Person), "p.name.upper(1)", "upper() takes 0 arguments"),
    (lambda: select(p.name.nothing for p in Person), "p.name.nothing", "a str has no attribute 'nothing' in a query"),
    (lambda: select(p.data.key for p in Person), "p.data.key", "write ['key']"),
    (lambda: select(p.name.title() for p in Person), "p.name.title()", "call it on the results"),
    (lambda: select(p for p in Person if p.name.like("A%")), 'p.name.like("A%")', 'x.startswith("...")'),
    (lambda: select(p for p in Person if p.born.strftime("%Y") == "1"), 'p.born.strftime("%Y")', "such as .year and .month"),
    (lambda: select(o.status.value for o in Order), "o.status.value", "compare with a member, such as Status.NEW"),
    (lambda: select(p for p in Person if p.is_adult()), "p.is_adult()", "Person.is_adult is a property: leave out the parentheses"),
    # what has many values
    (lambda: select((p.name, p.orders) for p in Person), "p.orders", "beside other items it has to be a loop"),
    (lambda: select((p.name, p.orders.total) for p in Person), "p.orders.total", "beside other items it has to be a loop"),
    (lambda: select((p, (o for o in p.orders)) for p in Person), "(o for o in p.orders)", "or an aggregate, such as"),
    (lambda: Person.select().order_by(lambda p: p.orders.total), "p.orders.total", "take sum(), max(), count() of them"),
    (lambda: select(p for p in Person if p.age == max(Person.age)), "max(Person.age)", "give it a generator, such as"),
    (lambda: select(p for p in Person if p.age == select(q.age for q in Person if count() > 1)), None, "many values"),
    # calls
    (lambda: select(print(p) for p in Person), "print(p)", "print cannot be called with what stands in a row"),
    (lambda: select(date(p.age, 1, 1) for p in Person), "date(p.age, 1, 1)", "make the value before the query"),
    (lambda: select(Decimal(p.age) for p in Person), "Decimal(p.age)", "numbers of all types go together"),
    (lambda: select(Person(name=p.name) for p in Person), "Person(name=p.name)", "a query makes no objects"),
    (lambda: select(p.name() for p in Person), "p.name()", "Person.name is an attribute, and is not called"),
    (lambda: select(p.nothing() for p in Person), "p.nothing()", "Person has no method 'nothing'"),
    (lambda: select(p.forevr() for p in Person), "p.forevr()", "did you mean 'forever'?"),
    (lambda: select(p.delete() for p in Person), "p.delete()", "call it on the results"),
    (lambda: select(p.is_older for p in Person), "p.is_older", "write is_older()"),
    (lambda: select(delete(o for o in p.orders) for p in Person), "delete(o for o in p.orders)", "a query changes nothing"),
    (lambda: select(get(o for o in p.orders) for p in Person), "get(o for o in p.orders)", "exists() or a subquery"),
    (lambda: select(desc(p.name) for p in Person), "desc(p.name)", "desc() is for order_by()"),
    (lambda: select(sum(p.orders.total, 3) for p in Person), "sum(p.orders.total, 3)", "sum() takes 1 argument at most"),
    (lambda: select(max(p.orders.total, default=3) for p in Person), "max(p.orders.total, default=3)", "use coalesce()"),
    (lambda: select(exists(p.name) for p in Person), "exists(p.name)", "takes a generator expression, a query or a collection"),
    (lambda: select(any(p.orders) for p in Person), "any(p.orders)", "for a collection itself use exists()"),
    (lambda: select(distinct(p.name) for p in Person), "distinct(p.name)", "count(distinct(x))"),
    (lambda: select(count((p.name, p.age)) for p in Person), "(p.name, p.age)", "this is a tuple"),
    (lambda: select(group_concat(p.name, nothing=1) for p in Person), "group_concat(p.name, nothing=1)", "no argument 'nothing'"),
    (lambda: select(random(p.age) for p in Person), "random(p.age)", "takes 0 arguments at most"),
    (lambda: select(raw_sql(p.name) for p in Person), "p.name", "values go into it by $name"),
    (lambda: select(raw_sql("$p.age") for p in Person), '"$p.age"', "leave out the $, and name its column"),
    (lambda: select(raw_sql("a $ b") for p in Person), '"a $ b"', "a $ stands alone"),
    (lambda: select(raw_sql("$(1 +") for p in Person), '"$(1 +"', "followed by no expression"),
    # collections and loops
    (lambda: select(p.orders[0] for p in Person), "p.orders[0]", "a collection has no places"),
    (lambda: select(p.orders.first() for p in Person), "p.orders.first()", "there are select(), count()"),
    (lambda: select(p.orders.count(1) for p in Person), "p.orders.count(1)", "give them to select()"),
    (lambda: select(p.orders.select(lambda: 1) for p in Person), "lambda: 1", "has to have 1 parameter"),
    (lambda: select(x for p in Person for x in [1, 2]), "[1, 2]", "and this is a list; look for values of a list with `in`"),
    (lambda: select(x for p in Person for x in p.name), "p.name", "a loop of a query ranges over"),
    (lambda: select(x for x, y in Person), "(x, y)", "one name for its variable"),
    (lambda: select(x for p in Person for x in select(q.age for q in Person).limit(3)), "select(q.age for q in Person).limit(3)", "can be made before this one and used by its name"),
    (lambda: select(x for p in Person for x in AGES), "AGES", "this query gives values"),
    # lambdas
    (lambda: narrowed(Person.select(), lambda p, q: p.age), "lambda p, q: p.age", "it has 2 parameters, and the result has 1 item: give it one for each, or use where()"),
    (lambda: narrowed(left_join((p, o) for p in Person for o in p.orders), lambda x, o: x, by_name=True), "x", "no loop variable 'x', but p, o"),
    (lambda: narrowed(Person.select(), lambda *p: p), "lambda *p: p", "plain ones"),
    (lambda: ordered(Person.select(), lambda p: 3), "3", "orders nothing"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "expression", "why"), CASES, ids=[str(case[1]) for case in CASES])
def test_what_cannot_be_translated(call, expression, why):
    """The error names the very part of the expression that cannot be translated, where it stands, and the way out."""
    named, said = refused(call)
    assert expression is None or named == expression
    assert why in said


def test_the_line_is_that_of_the_part():
    """In an expression of several lines, the line of what is wrong."""
    with pytest.raises(TranslationError, match=r"`p\.nmae` \(test_translation_errors\.py, line (\d+)\)") as caught:
        select(
            p
            for p in Person
            if p.age > 3
            and p.nmae == "x"
        )  # fmt: skip
    line = test_the_line_is_that_of_the_part.__code__.co_firstlineno
    assert f"line {line + 7})" in str(caught.value)


def test_entities_of_two_databases(db: Database):
    """One query asks one database."""

    class Log(db.Entity):
        text = Required(str)

    db.generate_mapping(check_tables=False)
    with pytest.raises(TranslationError, match="Person and Log are in different databases"):
        select(p for p in Person for log in Log if log.text == p.name)


@pytest.mark.parametrize("verb", [select, left_join, get, delete])
def test_what_is_no_query_at_all(verb):
    """The verbs take generator expressions over what is the database's, and say so."""
    with pytest.raises(TypeError, match=rf"{verb.__name__}\(\) takes a generator expression .*, not list"):
        verb([1, 2])
    with pytest.raises(
        TypeError, match=rf"{verb.__name__}\(u for u in User if u.age > 18\), not a generator over something else"
    ):
        verb(x for x in [1, 2])


def test_errors_of_python_are_pythons_own():
    """What a value of Python raises is raised as it is, with the line in its traceback."""

    def broken() -> int:
        raise ZeroDivisionError("broken")

    with pytest.raises(ZeroDivisionError, match="broken"):
        select(p for p in Person if p.age > broken() + 1)
    with pytest.raises(AttributeError) as caught:
        select(p for p in Person if p.age > db.nothing.more)
    assert caught.traceback[-1].path.name == "test_translation_errors.py"
