"""Functions, methods and properties of the user's own within a query: they are taken in as what they return."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from dbsession import Database, TranslationError, count, exists, raw_sql, select, sum
from tests.query import office
from tests.query.office import define, is_adult
from tests.query.trees import condition, narrowed, result

db = define(Database("sqlite://"), create_tables=False)
Person, Manager, Order = map(db.entities.get, ("Person", "Manager", "Order"))


def refused(items: Any) -> str:
    """Return the message of the error that translating raises, with its notes."""
    with pytest.raises(TranslationError) as caught:
        select(items)
    return "\n".join([str(caught.value), *getattr(caught.value, "__notes__", ())])


# --- functions --------------------------------------------------------------------------------------------


def test_a_function_is_what_it_returns():
    """Its parameters stand for the arguments, its other names are those of its own module."""
    assert condition(p for p in Person if is_adult(p)) == ">=(p.age, {0: 18})"
    assert condition(p for p in Person if office.is_adult(p.boss)) == ">=(p.boss.age, {0: 18})"


def test_names_of_a_function_are_read_each_time(monkeypatch: pytest.MonkeyPatch):
    """A function sees its module as it is when the query is made."""

    def query() -> Any:
        return select(p for p in Person if is_adult(p))

    first = query()
    monkeypatch.setattr(office, "LIMIT", 21)
    assert (first.values, query().values) == ((18,), (21,))


def test_closures_and_lambdas():
    """A function that is made anew each time has the names of that time."""

    def over(limit: int) -> Any:
        def check(person: Any) -> bool:
            return person.age > limit

        return check

    def query(check: Any) -> Any:
        return select(p for p in Person if check(p))

    assert [query(over(limit)).values for limit in (1, 2)] == [(1,), (2,)]
    assert query(over(1)).selected is query(over(2)).selected
    check = lambda person: person.name == "x"
    assert condition(p for p in Person if check(p)) == "=(p.name, 'x')"
    assert narrowed(Person.select(), lambda p: check(p.boss)) == "=(p.boss.name, 'x')"


def test_arguments():
    """By position, by name, defaults, values of Python, several of them unused."""

    def within(value: Any, low: int = 0, *, high: int = 10, unused: Any = None) -> bool:
        return low <= value < high

    low = 5
    assert condition(p for p in Person if within(p.age)) == "<=({0: 0}, p.age) AND <(p.age, {1: 10})"
    assert condition(p for p in Person if within(p.age, low)) == "<=({0: 5}, p.age) AND <(p.age, {1: 10})"
    assert (
        condition(p for p in Person if within(high=p.height, value=p.age)) == "<=({0: 0}, p.age) AND <(p.age, p.height)"
    )
    assert (
        condition(p for p in Person if within(p.age + 1, high=low))
        == "<=({0: 0}, +(p.age, 1)) AND <(+(p.age, 1), {1: 5})"
    )


def test_what_python_knows_chooses_the_branch():
    """A function of values that Python knows is Python's; a test that Python knows takes one branch."""

    def fits(person: Any, name: str | None, strict: bool) -> bool:
        """Say whether *person* is meant."""
        if name is None:
            return True
        if strict:
            wanted = name.strip()
            return person.name == wanted
        else:
            return name in person.name

    def query(name: str | None, strict: bool) -> str:
        return condition(p for p in Person if fits(p, name, strict))

    assert query(None, True) == ""
    assert query(" x ", True) == "=(p.name, {0: 'x'})"
    assert query("x", False) == "in({0: 'x'}, p.name)"


def test_branches_become_conditional_expressions():
    """What stands in the row decides by a conditional expression; falling off the end is None."""

    def rank(person: Any) -> str | None:
        age = person.age
        if age > 60:
            return "old"
        elif age > 18:
            pass
        else:
            return "young"
        if person.boss is None:
            rank = "head"
            return rank + "!"
        return None

    assert result(rank(p) for p in Person) == (
        "if(>(p.age, 60), 'old', if(>(p.age, 18), if(=(p.boss, None), {0: 'head!'}, None), 'young'))"
    )


def test_conditions_in_branches_need_no_if():
    """Where one branch is true or false, and the test is never unknown, and/or say the same."""

    def allowed(person: Any) -> bool:
        if person.boss is None:
            return True
        return person.age > 3

    assert condition(p for p in Person if allowed(p)) == "or(=(p.boss, None), >(p.age, 3))"
    assert condition(p for p in Person if not allowed(p)) == "not(or(=(p.boss, None), >(p.age, 3)))"


def test_subqueries_in_functions():
    """A function may ask for what a collection holds, and may be given one."""

    def rich(person: Any, orders: Any, least: int = 100) -> bool:
        return person.age > 1 and exists(o for o in orders if o.total > least)

    def busy(orders: Any) -> bool:
        return count(orders) > 3

    assert condition(p for p in Person if rich(p, p.orders)) == (
        ">(p.age, 1) AND exists([o FOR o IN p.orders IF >(o.total, {0: 100})])"
    )
    assert condition(p for p in Person if busy(o for o in Order if o.person == p)) == (
        ">(count([o FOR o IN Order IF =(o.person, p)]), 3)"
    )


def test_functions_that_call_functions():
    """Each is taken in in its turn; loop variables inside do not meet those outside."""

    def twice(p: Any) -> Any:
        return p + p

    def total(o: Any) -> Any:
        return twice(sum(p.total for p in o.orders))

    assert result(total(p) for p in Person) == "+(sum([p.total FOR p IN p.orders]), sum([p.total FOR p IN p.orders]))"


def test_raw_sql_in_functions():
    """$name is a name of the function."""

    def shorter(limit: int, person: Any) -> Any:
        return raw_sql("length(p.name) < $limit")

    assert condition(p for p in Person if shorter(3, p)) == "raw<length(p.name) < {0: 3}>"


# --- members of entities ----------------------------------------------------------------------------------


def test_properties_and_methods_of_entities():
    """u.is_adult and u.full_name() are taken in from the class of the entity."""
    limit = 20
    assert condition(p for p in Person if p.is_adult) == ">=(p.age, 18)"
    assert condition(o for o in Order if o.person.boss.is_adult) == ">=(o.person.boss.age, 18)"
    assert result(p.label for p in Person) == "if(=(p.nick, None), p.name, p.nick)"
    assert condition(p for p in Person if p.is_older(limit)) == ">(p.age, {0: 20})"
    assert condition(p for p in Person if p.is_older(limit, by=1)) == ">(p.age, {0: 21})"
    assert condition(p for p in Person if p.is_older(p.boss.age)) == ">(p.age, +(p.boss.age, {0: 0}))"
    assert condition(p for p in Person if p.spent_more(5)) == ">(sum([o.total FOR o IN p.orders]), {0: 5})"
    assert condition(p for p in Person if Person.young(p)) == "<(p.age, {0: 10})"
    assert condition(p for p in Person if p.young(p.boss, 5)) == "<(p.boss.age, {0: 5})"
    assert condition(p for p in Person if Person.is_older(p, 3)) == ">(p.age, {0: 3})"
    assert condition(m for m in Manager if m.is_adult) == ">=(m.age, 18)"


def test_constants_of_entities():
    """A value that the class has is a value of Python's."""
    assert condition(p for p in Person if p.age > p.MINIMUM) == ">(p.age, {0: 18})"
    assert condition(p for p in Person if p.age > Person.MINIMUM) == ">(p.age, {0: 18})"


def test_a_method_of_another_object():
    """`self` is a value of Python's, as far as it is asked for values."""

    class Rules:
        least = 4

        def allow(self, person: Any) -> bool:
            return person.age > self.least

    rules = Rules()
    assert condition(p for p in Person if rules.allow(p)) == ">(p.age, {0: 4})"
    rules.least = 5
    assert condition(p for p in Person if rules.allow(p)) == ">(p.age, {0: 5})"


# --- what cannot be taken in ------------------------------------------------------------------------------


def test_what_does_more_than_return_a_value():
    """Loops, and all that has an effect, stay in Python."""
    assert "a function that is taken into a query has assignments, if and return" in refused(p.shout() for p in Person)
    assert "in office.define.<locals>" not in refused(p.shout() for p in Person)
    assert "Person.shout(), for `p.shout()` (test_inlining.py" in refused(p.shout() for p in Person)

    def several(person: Any, *more: Any) -> Any:
        return person

    async def later(person: Any) -> Any:
        return person

    assert "takes any number of arguments" in refused(several(p) for p in Person)
    assert "does more than return a value" in refused(later(p) for p in Person)


def test_recursion():
    """A query has to end."""

    def odd(person: Any) -> Any:
        return even(person.boss)

    def even(person: Any) -> Any:
        return odd(person.boss)

    assert "calls itself, and a query has to end" in refused(p for p in Person if p.forever())
    assert "calls itself" in refused(p for p in Person if odd(p))


def test_wrong_arguments():
    """They are named, as by Python."""
    assert "lacks its argument 'than'" in refused(p.is_older() for p in Person)
    assert "does not take these arguments; its parameters are self, than, by" in refused(
        p.is_older(1, 2) for p in Person
    )
    assert "does not take these arguments" in refused(p.is_older(1, than=2) for p in Person)
    assert "does not take these arguments" in refused(p.is_older(1, nothing=2) for p in Person)


def test_what_is_decorated_or_written_in_c():
    """A wrapper is not what it wraps."""

    @functools.lru_cache
    def remembered(person: Any) -> Any:
        return person

    assert "remembered cannot be called with what stands in a row" in refused(remembered(p) for p in Person)
    assert "print cannot be called" in refused(print(p) for p in Person)
    assert "a query makes no objects" in refused(Order(person=p) for p in Person)


def test_what_subclasses_override(db: Database):
    """Which version it is depends on the row, so it is refused where subclasses have their own."""

    class Animal(db.Entity):
        @property
        def noise(self):
            return "?"

    class Dog(Animal):
        @property
        def noise(self):
            return "wow"

    db.generate_mapping(check_tables=False)
    assert "Dog has a noise of its own" in refused(a for a in Animal if a.noise == "wow")
    assert result(d.noise for d in Dog) == "'wow'"
