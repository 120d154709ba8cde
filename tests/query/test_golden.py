"""What is sent for each form of the query language, as it stands in golden/forms.txt."""

from __future__ import annotations

from tests.query.golden import forms
from tests.query.golden.page import PATH, page


def test_the_sql_of_every_form():
    """The SQL of every form is the one that was read and found good; `python -m tests.query.golden` writes it anew."""
    assert page() == PATH.read_text(encoding="utf-8")


def test_there_are_many_forms():
    """No form is there twice, and there are more than a hundred."""
    codes = [form.__code__ for made in forms.FORMS.values() for form in made]
    assert len({(code.co_code, code.co_consts, code.co_names) for code in codes}) == len(codes) > 130
