"""Dates, times and timedeltas in queries: the same as Python's, to the microsecond, on every database."""

from __future__ import annotations

import operator
from datetime import UTC, date, datetime, time, timedelta, timezone

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dbsession import Optional, PrimaryKey, avg, db_session, select
from dbsession import max as max_
from dbsession import min as min_
from dbsession import sum as sum_
from dbsession.query.tree import Slot
from tests.query.evaluating import in_python, kept_keys, op, query_for, selected_values

DAY, SECOND, MICROSECOND = timedelta(days=1), timedelta(seconds=1), timedelta(microseconds=1)
CET = timezone(timedelta(hours=1))
LONG = timedelta(microseconds=2**53)  # 285 years, beyond which PostgreSQL's product of an interval and a float rounds

MOMENTS = [
    datetime(1, 1, 1),
    datetime(1, 1, 1, 0, 0, 0, 1),
    datetime(999, 12, 31, 23, 59, 59, 999999),
    datetime(1900, 3, 1, 12, 30),
    datetime(1969, 12, 31, 23, 59, 59, 999500),
    datetime(2000, 2, 29, 6, 7, 8, 9),
    datetime(2023, 12, 31, 23, 59, 59, 999999),
    datetime(2024, 2, 29, 23, 59, 59, 999999),
    datetime(2024, 3, 31, 2, 30),  # an hour that a clock in Berlin has not
    datetime(2024, 10, 27, 2, 30),  # one that it has twice
    datetime(2026, 1, 4),  # a Sunday
    datetime(9999, 12, 31, 23, 59, 59, 999999),
]
SPANS = [
    timedelta(0),
    MICROSECOND,
    -MICROSECOND,
    timedelta(microseconds=3),
    timedelta(days=1, microseconds=4),
    timedelta(days=-1, microseconds=3),
    timedelta(hours=25),
    timedelta(hours=-1),
    timedelta(days=400, seconds=86399, microseconds=999999),
    timedelta(days=-36525, seconds=1, microseconds=1),
    timedelta(days=90000, microseconds=1),
]


def declare(db):
    """Declare an entity with dates and times of all kinds, and fill it with the edges of each; the last row is NULL."""

    class Event(db.Entity):
        no = PrimaryKey(int)
        at = Optional(datetime)
        utc = Optional(datetime, tz=True)
        day = Optional(date)
        clock = Optional(time)
        span = Optional(timedelta)
        other = Optional(timedelta)
        number = Optional(int)
        factor = Optional(float)
        name = Optional(str)

    db.generate_mapping(create_tables=True)
    with db_session:
        for no, moment in enumerate(MOMENTS):
            Event(
                no=no,
                at=moment,
                utc=moment.replace(tzinfo=UTC if no % 2 or no in (0, len(MOMENTS) - 1) else CET),
                day=moment.date(),
                clock=moment.time(),
                span=SPANS[no % len(SPANS)],
                other=SPANS[(no * 7 + 3) % len(SPANS)] or SECOND,
                number=(no - 5) or 13,
                factor=(no - 4.5) * 0.7,
                name="x",
            )
        Event(no=99)
    return Event


@pytest.fixture
def Event(db):
    """An entity with dates and times of all kinds."""
    return declare(db)


PYTHON = {
    **{name: operator.attrgetter(name) for name in ("year", "month", "day", "hour", "minute", "second", "microsecond")},
    **{name: operator.attrgetter(name) for name in ("days", "seconds", "microseconds")},
    **{
        name: operator.methodcaller(name)
        for name in ("weekday", "isoweekday", "date", "time", "total_seconds", "isoformat")
    },
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "neg": operator.neg,
    "abs": abs,
    "str": str,
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "between": lambda value, low, high: low <= value <= high,
}


def assert_as_in_python(Event, node, values=()):
    """Assert that the database gives for *node* what Python gives, value and type, for each row."""
    with db_session:
        found = selected_values(Event, node, values=values)
        assert len(found) == len(MOMENTS) + 1
        for event in Event.select():
            expected = in_python(PYTHON, node, event, values)
            if isinstance(expected, timedelta) and abs(expected) > LONG:
                expected = pytest.approx(expected, abs=abs(expected) * 1e-15)
            assert found[event.no] == expected, event.no
            assert expected is None or type(found[event.no]) is type(getattr(expected, "expected", expected))


# --- parts ------------------------------------------------------------------------------------------------------

PARTS = [
    *[(part, name) for part in ("year", "month", "day", "weekday", "isoweekday") for name in ("at", "utc", "day")],
    *[(part, name) for part in ("hour", "minute", "second", "microsecond") for name in ("at", "utc", "clock")],
    *[(part, name) for part in ("date", "time") for name in ("at", "utc")],
    *[(part, "span") for part in ("days", "seconds", "microseconds", "total_seconds")],
]


@pytest.mark.parametrize("part, name", PARTS)
def test_parts(Event, part, name):
    """Every part of a date, a time, a datetime and a timedelta is Python's; of a datetime with a zone that of UTC."""
    assert_as_in_python(Event, op(part, getattr(Event, name)))


@pytest.mark.parametrize("name", ["at", "utc", "day", "clock"])
def test_text(Event, name):
    """str(), isoformat() and f-strings write dates and times as Python does, microseconds only where there are any."""
    assert_as_in_python(Event, op("str", getattr(Event, name)))
    assert_as_in_python(Event, op("isoformat", getattr(Event, name)))


def test_parts_of_what_was_computed(Event):
    """Parts of sums and of parts: they are dates and times like those of a column."""
    with db_session:
        found = selected_values(Event, op("year", op("date", Event.at - DAY * 400)), where=(Event.no.between(3, 10),))
        expected = {event.no: (event.at - DAY * 400).date().year for event in Event.select(Event.no.between(3, 10))}
    assert found == expected


# --- arithmetic -------------------------------------------------------------------------------------------------


SHIFTS = [DAY, -DAY, MICROSECOND, timedelta(hours=25), timedelta(hours=-1), timedelta(days=366, microseconds=-1)]


@pytest.mark.parametrize("how", ["constant", "slot"])
@pytest.mark.parametrize("sign", ["+", "-"])
@pytest.mark.parametrize("name", ["at", "utc", "day"])
def test_moment_and_timedelta(Event, name, sign, how):
    """A date or datetime plus or minus a timedelta; of a date only whole days count, and -1 hour is -1 day."""
    middle = Event.no.between(3, 10)
    for shift in SHIFTS:
        span = shift if how == "constant" else Slot(0, DAY)
        node = op(sign, getattr(Event, name), span)
        with db_session:
            found = selected_values(Event, node, where=(middle,), values=(shift,))
            for event in Event.select(middle):
                assert found[event.no] == in_python(PYTHON, node, event, (shift,))


@pytest.mark.parametrize("name", ["at", "utc", "day"])
def test_moment_and_timedelta_of_the_row(Event, name):
    """The timedelta may be another column, in front or behind; NULL on either side gives NULL."""
    middle = Event.no.between(3, 10)
    for node in (
        getattr(Event, name) + Event.other,
        getattr(Event, name) - Event.other,
        op("+", Event.other, getattr(Event, name)),
    ):
        with db_session:
            found = selected_values(Event, node, where=(middle | (Event.no == 99),))
            assert found.pop(99) is None
            assert found == {event.no: in_python(PYTHON, node, event) for event in Event.select(middle)}


DIFFERENCES = [
    ("at", datetime(2024, 2, 29, 1, 2, 3, 4)),
    ("utc", datetime(2024, 2, 29, 1, 2, 3, 4, tzinfo=CET)),
    ("day", date(2024, 2, 29)),
]


@pytest.mark.parametrize("name, value", DIFFERENCES)
def test_differences(Event, name, value):
    """The difference of two dates or datetimes is a timedelta, exact over ten thousand years."""
    attribute = getattr(Event, name)
    for node in (attribute - value, value - attribute, attribute - Slot(0, value), attribute - attribute):
        assert_as_in_python(Event, node, (value,))


def test_timedeltas_by_timedeltas(Event):
    """Sums, differences, floors and remainders of timedeltas are Python's, with the sign of the divisor."""
    for right in (Event.other, timedelta(seconds=7), -DAY, Slot(0, DAY)):
        for sign in ("+", "-", "//", "%"):
            assert_as_in_python(Event, op(sign, Event.span, right), (timedelta(hours=-5, microseconds=1),))


def test_ratio_of_timedeltas(Event):
    """A timedelta by a timedelta is a float."""
    node = Event.span / Event.other
    with db_session:
        found = selected_values(Event, node)
        for event in Event.select():
            expected = in_python(PYTHON, node, event)
            assert found[event.no] == (expected if expected is None else pytest.approx(expected, rel=1e-15))
        assert kept_keys(Event, timedelta(seconds=0.3) / Event.other == 3) == set()
        Event(no=100, other=timedelta(seconds=0.1))
        assert kept_keys(Event, timedelta(seconds=0.3) / Event.other == 3) == {100}


@pytest.mark.parametrize("number", [1, 2, 3, 7, -2, 1000, 0.5, 1.5, -0.1])
def test_timedeltas_by_numbers(Event, number):
    """A timedelta times or divided by a number is rounded once to the microsecond, halves to the even one (up to 285 years)."""
    for node in (Event.span * number, number * Event.span, Event.span / number, Event.span * Slot(0, 1 * number)):
        assert_as_in_python(Event, node, (number,))


def test_timedeltas_by_numbers_of_the_row(Event):
    """The number may be a column, too."""
    for node in (
        Event.span * Event.number,
        Event.span / Event.number,
        op("//", Event.span, Event.number),
        Event.factor * Event.span,
        Event.span / Event.factor,
    ):
        assert_as_in_python(Event, node)


def test_signs_of_timedeltas(Event):
    """A timedelta with the other sign, and without one."""
    for node in (-Event.span, op("abs", Event.span), op("abs", -(Event.span - DAY)), -(Event.span + DAY)):
        assert_as_in_python(Event, node)


def test_out_of_the_years(Event):
    """Python has no year 10000 and raises; a condition with it keeps no row that Python could have looked at."""
    with db_session:
        kept = kept_keys(Event, Event.at + DAY <= datetime.max)
        assert kept == set(range(len(MOMENTS) - 1))
        assert kept_keys(Event, Event.day - DAY >= date.min) == set(range(2, len(MOMENTS)))


def test_long_timedeltas(Event):
    """A timedelta that is longer than what the database holds can be compared with."""
    everything = set(range(len(MOMENTS)))
    with db_session:
        assert kept_keys(Event, Event.span < timedelta.max) == everything
        assert kept_keys(Event, Event.span > Slot(0, DAY), (timedelta.min,)) == everything
        assert kept_keys(Event, Event.span - DAY < Slot(0, DAY), (timedelta.max,)) == everything


# --- comparisons ------------------------------------------------------------------------------------------------

VALUES = {
    "at": datetime(2024, 2, 29, 23, 59, 59, 999999),
    "utc": datetime(2000, 2, 29, 7, 7, 8, 9, tzinfo=CET),
    "day": date(2024, 2, 29),
    "clock": time(23, 59, 59, 999999),
    "span": timedelta(days=1, microseconds=4),
}


@pytest.mark.parametrize("name", VALUES)
def test_comparisons(Event, name):
    """Columns and what is computed of them compare with values as in Python; NULL is unknown."""
    attribute, value = getattr(Event, name), VALUES[name]
    left, right = attribute, value
    if name == "span":
        left, right = attribute - SECOND, value - SECOND
    elif name in ("at", "utc"):
        left, right = op("time", attribute), (value.astimezone(UTC) if value.tzinfo else value).time()
    for compare in ("=", "<>", "<", "<=", ">", ">="):
        for node, values in ((op(compare, attribute, value), ()), (op(compare, left, Slot(0, right)), (right,))):
            with db_session:
                expected = {e.no for e in Event.select() if in_python(PYTHON, node, e, values)}
                assert kept_keys(Event, node, values) == expected
    with db_session:
        assert kept_keys(Event, op("in", left, (right, None))) == kept_keys(Event, left == right) | {99}
        between = op("between", attribute, value, value)
        assert kept_keys(Event, between) == kept_keys(Event, attribute == value) != set()


def test_digits_that_a_column_has_not(db):
    """A value keeps its microseconds beside a column that has none."""

    class Tick(db.Entity):
        at = Optional(datetime, precision=0)

    db.generate_mapping(create_tables=True)
    with db_session:
        Tick(at=datetime(2026, 1, 1, 12))
    with db_session:
        assert Tick.select(Tick.at < datetime(2026, 1, 1, 12, 0, 0, 1)).count() == 1
        assert Tick.select(Tick.at + MICROSECOND == datetime(2026, 1, 1, 12, 0, 0, 1)).count() == 1


def test_time_zone_of_the_session(Event, db):
    """A day has 24 hours, and parts are UTC's, whatever time zone the session is set to."""
    nodes = (Event.utc + DAY, Event.utc - timedelta(hours=36), Event.utc + Event.other)
    parts = (op("hour", Event.utc), op("day", Event.utc), op("date", Event.utc), op("time", Event.utc))
    middle = Event.no.between(3, 10)
    with db_session:
        if db.backend.dialect.name == "postgresql":
            db.execute("SET TIME ZONE 'Europe/Berlin'")
        for node in (*nodes, *parts, op("str", Event.utc), Event.utc - datetime(2024, 3, 30, tzinfo=UTC)):
            found = selected_values(Event, node, where=(middle,))
            assert found == {e.no: in_python(PYTHON, node, e) for e in Event.select(middle)}


# --- in generators --------------------------------------------------------------------------------------------------

MIDDLE = range(3, 11)
DAYS, WHEN, LIMIT = 2 * DAY, datetime(2024, 1, 1), date(2000, 1, 1)

# Each is translated with E as the entity, and run by Python with E as the list of its objects.
GENERATORS = [
    lambda E: (e.no for e in E if e.at.year == 2024 and e.at.month > 2),
    lambda E: ((e.no, e.at.date(), e.at.time(), e.utc.hour, e.clock.microsecond) for e in E if e.at is not None),
    lambda E: (e.no for e in E if e.day and LIMIT < e.day < WHEN.date() and e.day.weekday() < 5),
    lambda E: ((e.no, e.at - e.span, e.day + DAYS) for e in E if 3 <= e.no <= 10),
    lambda E: ((e.no, (e.at - WHEN).days, (WHEN - e.at).total_seconds()) for e in E if e.at),
    lambda E: ((e.no, e.span.days, e.span.seconds, e.span.microseconds) for e in E if e.span),
    lambda E: (e.no for e in E if abs(e.at - WHEN) < timedelta(days=366) if e.at is not None),
    lambda E: ((e.no, f"{e.day} at {e.clock}", str(e.at), e.utc.isoformat()) for e in E if e.at is not None),
    lambda E: ((e.no, -e.span, abs(e.span), e.span / 2, 2 * e.span, e.span // DAY) for e in E if e.span is not None),
    lambda E: ((e.no, max(e.day, LIMIT), min(e.at, WHEN)) for e in E if e.at is not None),
    lambda E: ((e.no, LIMIT if e.day < LIMIT else e.day - DAY) for e in E if e.day is not None),
    lambda E: (e.no for e in E if e.at is not None and e.at.date() in (LIMIT, date(2024, 2, 29), None)),
    lambda E: ((e.no, (e.day + timedelta(weeks=1)).isoweekday()) for e in E if e.no < 11),
    lambda E: (
        (e.no, e.at + timedelta(days=e.number), e.day - timedelta(e.number, hours=30)) for e in E if e.no in MIDDLE
    ),
    lambda E: ((e.no, timedelta(minutes=e.number, weeks=2, milliseconds=e.factor)) for e in E if e.number),
    lambda E: (e.no for e in E if not e.span),
]
NOT_SPAN = len(GENERATORS) - 1  # the one that is true of NULL, too


@pytest.mark.parametrize("number", range(len(GENERATORS)))
def test_generators(Event, number):
    """Generators with dates, times and timedeltas give what they give when Python runs them over the objects."""
    make = GENERATORS[number]
    with db_session:
        rows = [event for event in Event.select() if event.at is not None or number == NOT_SPAN]
        assert sorted(select(make(Event))) == sorted(make(rows)) != []


def test_aggregates(Event):
    """Timedeltas have a sum and a mean, and like dates a smallest and a largest; of nothing the sum is no time."""
    with db_session:
        spans = sorted([event.span for event in Event.select() if event.span is not None])
        total = sum(spans, timedelta())
        assert sum_(e.span for e in Event) == total
        assert avg(e.span for e in Event) == total / len(spans)
        assert select((min_(e.span), max_(e.span), max_(e.utc), min_(e.day), max_(e.clock)) for e in Event).get() == (
            spans[0],
            spans[-1],
            max([event.utc for event in Event.select() if event.utc]),
            date(1, 1, 1),
            time(23, 59, 59, 999999),
        )
        assert sum_(e.span for e in Event if e.no < 0) == timedelta(0)
        assert avg(e.span for e in Event if e.no < 0) is None
        years = dict(select((e.at.year, sum_(e.span)) for e in Event if e.at))
        assert years[2024] == sum([e.span for e in Event.select() if e.at and e.at.year == 2024], timedelta())
        with pytest.raises(TypeError, match=r"sum\(\) takes numbers"):
            sum_(e.day for e in Event)
        with pytest.raises(TypeError, match=r"avg\(\) takes numbers and timedeltas, and e\.day is a date"):
            avg(e.day for e in Event)


# --- what is refused ----------------------------------------------------------------------------------------------

NAIVE, AWARE, TODAY = datetime(2026, 1, 1), datetime(2026, 1, 1, tzinfo=UTC), date(2026, 1, 1)
REFUSED = [
    (lambda E: E.day == E.at, r"Event\.at is a datetime and Event\.day is a date; compare Event\.at\.date\(\)"),
    (lambda E: E.day < NAIVE, r"is a datetime and Event\.day is a date"),
    (lambda E: E.utc >= TODAY, r"compare Event\.utc\.date\(\)"),
    (lambda E: E.at == E.utc, r"Event\.utc has a time zone and Event\.at has none"),
    (lambda E: E.at + DAY < AWARE, "has a time zone and .* has none"),
    (lambda E: E.utc < Slot(0, NAIVE), "has a time zone and .* has none"),
    (lambda E: E.at - AWARE == DAY, "has a time zone and .* has none"),
    (lambda E: E.at - TODAY == DAY, r"subtract Event\.at\.date\(\)"),
    (lambda E: E.day == E.clock, r"Event\.day is a date, and Event\.clock is a time"),
    (lambda E: E.span < E.number, r"Event\.span is a timedelta, and Event\.number is an int"),
    (lambda E: E.day == E.name, r"Event\.day is a date, and Event\.name is a str"),
    (lambda E: E.day + DAY == "2026-01-01", "is a str"),
    (lambda E: op("in", E.day, (TODAY, NAIVE)), "is a datetime and Event.day is a date"),
    (lambda E: op("between", E.utc, AWARE, TODAY), "is a datetime and .* is a date"),
    (lambda E: E.day + 1 == TODAY, r"\+ is not for Event\.day \(a date\) and 1 \(an int\)"),
    (lambda E: E.at + E.at == NAIVE, r"\+ is not for Event\.at \(a datetime\) and"),
    (lambda E: DAY - E.at == NAIVE, "- is not for"),
    (lambda E: E.clock + DAY == time(1), r"\+ is not for Event\.clock \(a time\)"),
    (lambda E: E.clock - E.clock == DAY, "- is not for"),
    (lambda E: E.span * E.span == DAY, r"\* is not for"),
    (lambda E: 2 / E.span == 1, "/ is not for"),
    (lambda E: -E.day == TODAY, "- is not for"),
    (lambda E: op("hour", E.day) == 1, r"Event\.day is a date, which has no hour"),
    (lambda E: op("year", E.clock) == 1, r"Event\.clock is a time, which has no year"),
    (lambda E: op("year", E.name) == 1, r"Event\.name is a str, which has no year"),
    (lambda E: op("weekday", E.clock) == 1, r"Event\.clock is a time, which has no weekday\(\)"),
    (lambda E: op("date", E.day) == TODAY, r"Event\.day is a date, which has no date\(\)"),
    (lambda E: op("total_seconds", E.number) == 1, r"Event\.number is an int, which has no total_seconds\(\)"),
    (lambda E: op("isoformat", E.span) == "x", r"Event\.span is a timedelta, which has no isoformat\(\)"),
    (lambda E: op("str", E.span) == "x", r"Event\.span is a timedelta, which no database writes"),
]


@pytest.mark.parametrize("make, message", REFUSED)
def test_refused(Event, make, message):
    """What Python refuses, or answers with False without looking, is a TypeError that names the operands."""
    with db_session, pytest.raises(TypeError, match=message):
        kept_keys(Event, make(Event), (NAIVE,))


def test_refused_later(Event):
    """A value that comes when the query is sent is checked then: the same query with a datetime of the other kind."""
    query = query_for(Event, where=(Event.at + DAY < Slot(0, NAIVE),), values=(AWARE,))
    with db_session, pytest.raises(TypeError, match="stands beside a datetime without a time zone"):
        query.fetch()
    query = query_for(Event, where=(op("date", Event.at) == Slot(0, TODAY),), values=(NAIVE,))
    with db_session, pytest.raises(TypeError, match="stands beside a date"):
        query.fetch()


# --- anything at all ----------------------------------------------------------------------------------------------

INTS = st.integers(-5, 5)
NEAR = st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1))
SHORT = st.timedeltas(timedelta(days=-300), timedelta(days=300))


def expressions(Event, depth=3):
    """Return a strategy for each type: values, columns, and what is computed of them."""
    spans = st.one_of(SHORT, st.just(Event.span), st.just(Event.other))
    if not depth:
        return {"at": st.one_of(NEAR, st.just(Event.at)), "day": st.just(Event.day), "span": spans}
    below = expressions(Event, depth - 1)
    pairs = st.tuples(below["at"], below["at"])
    return {
        "at": below["at"] | st.builds(op, st.sampled_from(["+", "-"]), below["at"], below["span"]),
        "day": below["day"]
        | st.builds(op, st.just("date"), below["at"])
        | st.builds(op, st.sampled_from(["+", "-"]), below["day"], below["span"]),
        "span": spans
        | pairs.map(lambda pair: op("-", *pair))
        | st.builds(op, st.sampled_from(["+", "-"]), below["span"], below["span"])
        | st.builds(op, st.just("*"), below["span"], INTS)
        | st.builds(op, st.just("/"), below["span"], INTS.filter(bool))
        | st.builds(op, st.sampled_from(["abs", "neg"]), below["span"]),
    }


def test_random_expressions(Event):
    """Whatever is computed of dates and timedeltas, the database and Python agree."""
    with db_session:
        Event.select((Event.no < 3) | Event.no.between(9, 98)).delete()  # near the end of the years, and long
        for event in Event.select(Event.no < 99):
            event.other %= timedelta(days=300)
    trees = expressions(Event)
    parts = [
        st.builds(op, st.sampled_from(["year", "microsecond", "weekday", "time"]), trees["at"]),
        st.builds(op, st.sampled_from(["month", "day", "isoweekday"]), trees["day"]),
        st.builds(op, st.sampled_from(["days", "seconds", "microseconds", "total_seconds"]), trees["span"]),
        st.builds(op, st.sampled_from(["=", "<", ">="]), trees["span"], trees["span"]),
        st.builds(op, st.sampled_from(["<>", "<=", ">"]), trees["at"], trees["at"]),
    ]

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.one_of(*trees.values(), *parts))
    def agree(node):
        if not has_column(node):
            return
        with db_session:
            found = selected_values(Event, node)
            assert found == {event.no: in_python(PYTHON, node, event) for event in Event.select()}

    agree()


def has_column(node):
    """Tell whether *node* and all that it is computed of depend on the row: what does not is no SQL."""
    operands = getattr(node, "operands", None)
    if operands is None:
        return hasattr(node, "mapping")
    inner = [operand for operand in operands if hasattr(operand, "operands")]
    return all(map(has_column, inner)) and any(map(has_column, operands))
