"""Conditions on text: every character is what it is, on both databases; and None."""

from __future__ import annotations

import operator

import pytest

from dbsession import Optional, Required, db_session

TEXTS = [
    "", "a", "A", "ab", "aB", "a%b", "a_b", "axb", "a\\b", "a\\%b", "it's", '"q"', "100%", "_", "%", "\\", "\\\\",
    "Äpfel", "äpfel", "ÄPFEL", "naïve", "ÑANDÚ", "ñandú", "é", "e\u0301", "\U0001f600", "a\nb", "a?b", ":a", "$1", "ab  c",
]  # fmt: skip
PARTS = [*TEXTS, "b", "%b", "a%", "a_", "_b", "Ä", "ä", "pfel", "l", "x%y", "'", '"', "\n", "?"]

OPERATORS = {
    "startswith": (lambda text, part: text.startswith(part), str.startswith),
    "endswith": (lambda text, part: text.endswith(part), str.endswith),
    "contains": (lambda text, part: text.contains(part), lambda text, part: part in text),
    "==": (operator.eq, operator.eq),
    "!=": (operator.ne, operator.ne),
}


@pytest.fixture
def Text(db):
    """An entity with every text of TEXTS, and one NULL."""

    class Text(db.Entity):
        text = Optional(str, autostrip=False)

    db.generate_mapping(create_tables=True)
    with db_session:
        for text in TEXTS:
            Text(text=text)
        Text(text=None)
    return Text


@pytest.mark.parametrize("name", OPERATORS)
def test_text_is_matched_as_it_stands(Text, name):
    """%, _, backslash and quotes are characters like others; case counts; NULL matches nothing."""
    in_sql, in_python = OPERATORS[name]
    with db_session:
        for part in PARTS:
            found = {text.text for text in Text.select(in_sql(Text.text, part))}
            assert found == {text for text in TEXTS if in_python(text, part)}, part


def test_lower_and_upper_know_every_alphabet(Text):
    """lower() and upper() are those of Python for letters that have one other case."""
    with db_session:
        assert {t.text for t in Text.select(Text.text.lower() == "äpfel")} == {"Äpfel", "äpfel", "ÄPFEL"}
        assert {t.text for t in Text.select(Text.text.upper() == "ÑANDÚ")} == {"ÑANDÚ", "ñandú"}
        assert {t.text for t in Text.select(Text.text.lower().startswith("ä"))} == {"Äpfel", "äpfel", "ÄPFEL"}
        assert {t.text for t in Text.select(Text.text.upper().lower().contains("ñ"))} == {"ÑANDÚ", "ñandú"}
        assert {t.text for t in Text.select(Text.text.lower() == "ab")} == {"ab", "aB"}


def test_text_of_another_attribute(db):
    """The text to look for may be that of another attribute."""

    class Pair(db.Entity):
        whole = Required(str)
        part = Required(str)

    db.generate_mapping(create_tables=True)
    with db_session:
        Pair(whole="a%b", part="a%"), Pair(whole="axb", part="a%"), Pair(whole="b", part="b")
        query = Pair.select().order_by(Pair.id)
        assert [pair.id for pair in query.filter(Pair.whole.startswith(Pair.part))] == [1, 3]
        assert [pair.id for pair in query.filter(Pair.whole.endswith(Pair.part.lower()))] == [3]
        assert [pair.id for pair in query.filter(Pair.whole.contains(Pair.part) & (Pair.whole != Pair.part))] == [1]


def test_none(Text):
    """None is NULL: == None and is_null() find it, != None finds the rest, and it has no order."""
    with db_session:
        assert [t.text for t in Text.select(Text.text == None)] == [None]  # noqa: E711
        assert [t.text for t in Text.select(None == Text.text)] == [None]  # noqa: E711, SIM300
        assert [t.text for t in Text.select(Text.text.is_null())] == [None]
        assert Text.select(Text.text != None).count() == len(TEXTS)  # noqa: E711
        assert Text.select(~Text.text.is_null()).count() == len(TEXTS)
        assert Text.get(text=None).text is None
        with pytest.raises(TypeError, match="None cannot be compared with <"):
            Text.select(Text.text < None).fetch()
        for wrong in (
            lambda: Text.text.between(None, "b"),
            lambda: Text.text.startswith(None),
            lambda: Text.text.contains(None),
        ):
            with pytest.raises(TypeError, match="None"):
                Text.select(wrong()).fetch()
