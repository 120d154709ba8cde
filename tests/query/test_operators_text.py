"""Operators on text give what Python's give: letters, parts, white space, positions from either end."""

from __future__ import annotations

import pytest

from dbsession import Optional, Required, db_session
from dbsession.model.expressions import Operation
from dbsession.query.tree import Slot
from tests.query.operating import declare, mismatches, results

POSITIONS = [None, 0, 1, 2, 3, 10, -1, -2, -3, -10]
SPACE = "".join([chr(code) for code in range(0x3001) if chr(code).isspace()])


@pytest.fixture
def Thing(db):
    """Things with texts: NULL, empty, with white space, with letters beyond ASCII and beyond 16 bits."""
    return declare(db)


def maybe(function):
    """Return *function* of a thing's text, or None for NULL."""
    return lambda thing: None if thing.t is None else function(thing.t)


def test_letters_and_length(Thing):
    """upper() and lower() know all alphabets, len() counts characters."""
    cases = {
        "lower": (Thing.u.lower(), lambda thing: thing.u.lower()),
        "upper(u)": (Operation("upper", Thing.t[:4]), maybe(lambda text: text[:4].upper())),
        "len(t)": (Operation("len", Thing.t), maybe(len)),
        "len(u) + 1": (Operation("len", Thing.u) + 1, lambda thing: len(thing.u) + 1),
    }
    with db_session:
        Thing.select(Thing.t.contains("İ")).delete()  # which has two letters in lower case, in Python alone
    assert mismatches(Thing, cases) == []


@pytest.mark.parametrize("name", ["strip", "lstrip", "rstrip"])
def test_strip(Thing, name):
    """Without an argument, all that Python takes for white space goes; with one, its characters."""
    cases = {name: (getattr(Thing.t, name)(), maybe(lambda text: getattr(text, name)()))}
    for chars in ("aho", " ", "", "]^-\\%"):
        wanted = maybe(lambda text, chars=chars: getattr(text, name)(chars))
        cases[f"{name}({chars!r})"] = getattr(Thing.t, name)(chars), wanted
        cases[f"{name}(slot)"] = Operation(name, Thing.t, Slot(0, "aho")), wanted, chars
    cases[f"{name}(None)"] = Operation(name, Thing.t, Slot(0, None)), maybe(lambda text: getattr(text, name)()), None
    cases[f"{name}(u)"] = (
        getattr(Thing.t, name)(Thing.u),
        lambda thing: None if thing.t is None else getattr(thing.t, name)(thing.u),
    )
    assert mismatches(Thing, cases) == []


def test_every_white_space_is_stripped(db):
    """strip() takes away each character that is white space to Python, and no other."""

    class Text(db.Entity):
        value = Optional(str, autostrip=False)

    db.generate_mapping(create_tables=True)
    with db_session:
        Text(value=SPACE + "a\u200bb" + SPACE), Text(value=SPACE), Text(value="\u200b\ufeff")
    with db_session:
        assert results(Text, Text.value.strip()) == ["a\u200bb", "", "\u200b\ufeff"]
        assert results(Text, Text.value.lstrip()) == ["a\u200bb" + SPACE, "", "\u200b\ufeff"]


@pytest.mark.parametrize("name", ["startswith", "endswith", "contains"])
def test_parts(Thing, name):
    """startswith(), endswith() and contains() of a text, a value from outside, another attribute; and their opposite."""
    python = str.__contains__ if name == "contains" else getattr(str, name)
    cases = {}
    for part in ("", "a", "abc", "hello", "lo", "he", "much longer than any of them", "%", "\U0001f600ab"):
        wanted = maybe(lambda text, part=part: python(text, part))
        opposite = maybe(lambda text, part=part: not python(text, part))
        cases[f"{part!r}"] = Operation(name, Thing.t, part), wanted
        cases[f"slot {part!r}"] = Operation(name, Thing.t, Slot(0, "x")), wanted, part
        cases[f"not {part!r}"] = ~Operation(name, Thing.t, part), opposite
        cases[f"not slot {part!r}"] = ~Operation(name, Thing.t, Slot(0, "x")), opposite, part
    cases["u"] = Operation(name, Thing.t, Thing.u), lambda thing: maybe(lambda text: python(text, thing.u))(thing)
    cases["not u"] = (
        ~Operation(name, Thing.t, Thing.u),
        lambda thing: maybe(lambda text: not python(text, thing.u))(thing),
    )
    assert mismatches(Thing, cases) == []


@pytest.mark.parametrize("name", ["startswith", "endswith"])
def test_one_of_several_parts(Thing, name):
    """A tuple of texts: one of them will do; none of an empty one."""
    cases = {}
    for parts in (("he", "abc"), ("lo", "bc", "\t\u2003"), (), ("",)):
        wanted = maybe(lambda text, parts=parts: getattr(text, name)(parts))
        cases[f"{parts!r}"] = Operation(name, Thing.t, parts), wanted
        cases[f"not {parts!r}"] = (
            ~Operation(name, Thing.t, parts),
            maybe(lambda text, parts=parts: not getattr(text, name)(parts)),
        )
        cases[f"slot {parts!r}"] = Operation(name, Thing.t, Slot(0, parts)), wanted, parts
    with db_session:
        Thing.select(Thing.t == None).delete()  # noqa: E711 - an empty tuple is false for NULL too
    assert mismatches(Thing, cases) == []


def test_in_a_text(Thing):
    """`in` looks for a part of a text."""
    cases = {
        "'l' in t": (Operation("in", "l", Thing.t), maybe(lambda text: "l" in text)),
        "u in 'xAxell'": (Operation("in", Thing.u, "xAxell"), lambda thing: thing.u in "xAxell"),
        "u in slot": (Operation("in", Thing.u, Slot(0, "")), lambda thing: thing.u in "xAxell", "xAxell"),
        "u not in 'xA'": (~Operation("in", Thing.u, "xA"), lambda thing: thing.u not in "xA"),
    }
    cases["u in t"] = Operation("in", Thing.u, Thing.t), lambda thing: None if thing.t is None else thing.u in thing.t
    assert mismatches(Thing, cases) == []


# --- together -----------------------------------------------------------------------------------------------


def test_together(Thing):
    """+ puts texts together, concat() and f-strings whatever there is; NULL makes NULL of all."""
    cases = {
        "t + u": (Thing.t + Thing.u, lambda thing: thing.t + thing.u),
        "'<' + t + '>'": ("<" + Thing.t + ">", lambda thing: "<" + thing.t + ">"),
        "t + slot": (Operation("+", Thing.t, Slot(0, "")), lambda thing: thing.t + "%s?", "%s?"),
        "(t + u).upper()": ((Thing.t[:3] + Thing.u[:0]).upper(), maybe(lambda text: text[:3].upper())),
        "concat": (
            Operation("concat", "<", Thing.j, Thing.c, Thing.d, Slot(0, 1.5), None, ">"),
            lambda thing: None if thing.d is None else f"<{thing.j}{thing.c}{thing.d}{1.5}{None}>",
            1.5,
        ),
        "concat(i)": (Operation("concat", Thing.i), lambda thing: None if thing.i is None else str(thing.i)),
        "f'{j + 1}:{u}'": (
            Operation("concat", Thing.j + 1, ":", Thing.u),
            lambda thing: f"{thing.j + 1}:{thing.u}",
        ),
        "concat(b)": (Operation("concat", Thing.b, "!"), lambda thing: None if thing.b is None else f"{thing.b}!"),
        "concat()": (Operation("concat"), lambda _: ""),
        "len(t + u)": (Operation("len", Thing.t + Thing.u), lambda thing: len(thing.t + thing.u)),
        "(t + u) == slot": (
            Thing.t + Thing.u == Slot(0, "x"),
            lambda thing: None if thing.t is None else thing.t + thing.u == "helloell",
            "helloell",
        ),
    }
    with db_session:
        Thing.select(Thing.t.contains("İ")).delete()
    assert mismatches(Thing, cases) == []


# --- positions ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", POSITIONS)
def test_slices(Thing, start):
    """t[start:stop] for every pair of positions, written in the query or known only when it is sent."""
    cases = {}
    for stop in POSITIONS:
        wanted = maybe(lambda text, stop=stop: text[start:stop])
        cases[f"[{start}:{stop}]"] = Thing.t[start:stop], wanted
        if start is not None and stop is not None:
            both = Operation("slice", Thing.t, Slot(0, 1), Slot(1, -1))
            cases[f"[slot {start}:slot {stop}]"] = both, wanted, start, stop
        if start is not None:
            first = Operation("slice", Thing.t, Slot(0, start), stop)
            cases[f"[slot {start}:{stop}]"] = first, wanted, start
        if stop is not None:
            second = Operation("slice", Thing.t, start, Slot(0, stop))
            cases[f"[{start}:slot {stop}]"] = second, wanted, stop
    assert mismatches(Thing, cases) == []


def test_slices_by_attributes(Thing):
    """A position that is an expression may be of either sign in each row, or NULL."""
    cases = {}
    text, small = Thing.t, Thing.small
    pairs = {
        "t[small:]": (text[small:], lambda t, n: t[n:]),
        "t[:small]": (text[:small], lambda t, n: t[:n]),
        "t[small:3]": (text[small:3], lambda t, n: t[n:3]),
        "t[1:small]": (text[1:small], lambda t, n: t[1:n]),
        "t[-3:small]": (text[-3:small], lambda t, n: t[-3:n]),
        "t[small:-1]": (text[small:-1], lambda t, n: t[n:-1]),
        "t[small - 1:small]": (text[small - 1 : small], lambda t, n: t[n - 1 : n]),
    }
    for name, (node, python) in pairs.items():
        cases[name] = (
            node,
            lambda thing, python=python: (
                None if thing.t is None or thing.small is None else python(thing.t, thing.small)
            ),
        )
    assert mismatches(Thing, cases) == []


def test_characters(Thing):
    """t[n] from either end; where Python would raise IndexError there is the empty text."""

    def at(text, place):
        return text[place] if -len(text) <= place < len(text) else ""

    cases = {}
    for place in POSITIONS[1:]:
        wanted = maybe(lambda text, place=place: at(text, place))
        cases[f"t[{place}]"] = Thing.t[place], wanted
        cases[f"t[slot {place}]"] = Operation("item", Thing.t, Slot(0, 1)), wanted, place
        cases[f"t[slot {place}] from a negative one"] = Operation("item", Thing.t, Slot(0, -1)), wanted, place
    cases["t[small]"] = Thing.t[Thing.small], lambda thing: None if thing.t is None else at(thing.t, thing.small)
    assert mismatches(Thing, cases) == []


def test_positions_in_conditions(Thing):
    """Parts of texts are texts like others."""
    with db_session:
        assert [thing.u for thing in Thing.select(Thing.t[:2] == "he")] == ["ell"]
        assert [thing.u for thing in Thing.select(Thing.t[-1].in_(["o", "c"])).order_by(Thing.j)] == ["ell", "bc"]
        assert [thing.u for thing in Thing.select(Thing.t[1:3].upper() == "EL")] == ["ell"]
        assert Thing.select(Operation("len", Thing.u) > 1).order_by(Operation("len", Thing.u)).count() == 2


def test_huge_positions(db):
    """Positions beyond every text, and beyond 64 bits, are the ends."""

    class Text(db.Entity):
        value = Required(str)

    db.generate_mapping(create_tables=True)
    with db_session:
        Text(value="abc")
    with db_session:
        for huge in (2**31 - 1, 2**31, 2**40, 2**70):
            assert results(Text, Text.value[:huge]) == ["abc"] == results(Text, Text.value[-huge:])
            assert results(Text, Text.value[huge:]) == [""] == results(Text, Text.value[:-huge])
            assert results(Text, Text.value[1:huge]) == ["bc"] and results(Text, Text.value[huge]) == [""]
            slot = Operation("slice", Text.value, Slot(0, 1), Slot(1, 2))
            assert results(Text, slot, (-huge, huge)) == ["abc"] and results(Text, slot, (huge, -huge)) == [""]
