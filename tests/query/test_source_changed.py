"""A source that is not, or is no longer, that of the running code: an error, and never another expression."""

from __future__ import annotations

import importlib
import linecache
import os
import py_compile
import sys

import pytest

from dbsession import OrmError, SourceNotFound, TranslationError
from dbsession.query.translation.source import find_source, segment
from tests.query.sources import code_of, imported, load

BEFORE = "import datetime\n\ndef f(n):\n    return lambda u: u.age > n, lambda u: u.name == n\nfound = f(1)\n"


def texts_of(module):
    """Return the texts that are found for what *module* holds, and the names of the errors."""
    texts = []
    for found in module.found:
        try:
            source = find_source(code_of(found))
        except SourceNotFound as error:
            texts.append(type(error).__name__)
        else:
            texts.append(segment(source, source.node))
    return texts


ALL = ["lambda u: u.age > n", "lambda u: u.name == n"]
FIRST, NONE = [ALL[0], "SourceNotFound"], ["SourceNotFound", "SourceNotFound"]

EDITS = {
    "a line above": (lambda text: "\n" + text, NONE),
    "a line between": (lambda text: text.replace("\n\n", "\n\n\n"), NONE),
    "a line less": (lambda text: text.replace("\n\n", "\n"), NONE),
    "another indentation": (lambda text: text.replace("    ", "  "), NONE),
    "another operator": (lambda text: text.replace(">", "<"), ["SourceNotFound", ALL[1]]),
    "another attribute": (lambda text: text.replace("age", "new"), ["SourceNotFound", ALL[1]]),
    "another constant": (lambda text: text.replace("== n", "== 1"), FIRST),
    "an argument": (lambda text: text.replace("lambda u: u.name", "lambda v: v.name"), FIRST),
    "a local name": (lambda text: text.replace("> n", "> m"), ["SourceNotFound", ALL[1]]),
    "no local name any more": (lambda text: text.replace("def f(n)", "def f(m)"), NONE),
    "another function": (lambda text: text.replace("def f(", "def g("), ALL),
    "exchanged": (lambda text: text.replace("age >", "x").replace("name ==", "age >").replace("x", "name =="), NONE),
    "moved in the line": (lambda text: text.replace("return ", "return 0, "), NONE),
    "one less": (lambda text: text.replace("lambda u: u.age > n, ", ""), NONE),
    "one more": (lambda text: text.replace("== n", "== n, lambda u: u.name == n"), ALL),
    "an import": (lambda text: text.replace("import datetime", "import decimal"), ALL),
    "the lines below": (lambda text: text + "x = lambda u: u.age > n", ALL),
    "a comment": (lambda text: text.replace("import datetime", "import datetime  # later"), ALL),
    "half a line": (lambda text: text[:-15], NONE),
    "nothing left": (lambda _: "", NONE),
    "zeros": (lambda text: "\0" * len(text), NONE),
    "another language": (lambda _: "<html>\n" * 10, NONE),
}


@pytest.mark.parametrize(("edit", "wanted"), EDITS.values(), ids=EDITS)
def test_a_file_that_is_edited_after_its_import(tmp_path, edit, wanted):
    """What stands unchanged in its place is found; for anything else it is an error that the file has changed."""
    path = tmp_path / "orders.py"
    module = load(path, BEFORE)
    path.write_text(edit(BEFORE), encoding="utf-8")
    assert texts_of(module) == wanted


def test_code_that_calls_what_is_no_longer_imported(tmp_path):
    """Python compiles calls of imported modules in a way of its own; that counts as the code having changed."""
    path = tmp_path / "orders.py"
    module = load(path, "import datetime\nfound = [lambda u: datetime.now(), lambda u: u.now()]")
    path.write_text("datetime = None\nfound = [lambda u: datetime.now(), lambda u: u.now()]", encoding="utf-8")
    assert texts_of(module) == ["SourceNotFound", "lambda u: u.now()"]


def test_the_error_says_what_to_do(tmp_path):
    """The error names the file, the expression, its line, and both ways out; it is a TypeError, too."""
    path = tmp_path / "orders.py"
    module = load(path, BEFORE)
    path.write_text("\n" + BEFORE, encoding="utf-8")
    with pytest.raises(SourceNotFound) as caught:
        find_source(code_of(module.found[0]))
    message = str(caught.value)
    assert message.startswith(f"{path} has changed since it was imported")
    assert "lambda at orders.py, line 4" in message
    assert "Start the program again" in message
    assert "User.select(User.age > 18)" in message
    for kind in (TranslationError, OrmError, TypeError):
        assert isinstance(caught.value, kind)


def test_an_error_is_not_remembered(tmp_path):
    """Where the file is put right again, its expressions are found."""
    path = tmp_path / "orders.py"
    module = load(path, BEFORE)
    path.write_text("\n" + BEFORE, encoding="utf-8")
    assert texts_of(module) == NONE
    path.write_text(BEFORE, encoding="utf-8")
    assert texts_of(module) == ALL


def test_what_was_found_stays_found(tmp_path):
    """An expression that was looked for before the file was edited is the one that is running, and stays it."""
    path = tmp_path / "orders.py"
    module = load(path, BEFORE)
    assert texts_of(module) == ALL
    path.write_text("", encoding="utf-8")
    assert texts_of(module) == ALL


def test_a_file_that_linecache_has_read_before(tmp_path):
    """The lines that a traceback, say, has read before the file was edited are as good as the file."""
    path = tmp_path / "orders.py"
    module = load(path, BEFORE)
    linecache.getlines(str(path))
    path.write_text("", encoding="utf-8")
    assert texts_of(module) == ALL


def test_a_module_that_is_loaded_again(tmp_path, monkeypatch):
    """After a reload the new text is found for the new code, whatever linecache remembers; the old code has none."""
    path = tmp_path / "orders_of_a_test.py"
    path.write_text(BEFORE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    module = importlib.import_module("orders_of_a_test")
    old = list(module.found)
    linecache.getlines(str(path))
    path.write_text("\n\n" + BEFORE.replace("age", "new"), encoding="utf-8")
    importlib.reload(module)
    assert texts_of(module) == ["lambda u: u.new > n", ALL[1]]
    linecache.checkcache(str(path))
    module.found = old
    assert texts_of(module) == NONE
    del sys.modules["orders_of_a_test"]


def test_an_edit_that_its_size_and_time_do_not_show(tmp_path):
    """The text is what counts: an edit of the same length, within the same tick of the clock, is seen."""
    path = tmp_path / "orders.py"
    module = load(path, BEFORE)
    stat = path.stat()
    path.write_text(BEFORE.replace("> n", "< n"), encoding="utf-8")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert texts_of(module) == ["SourceNotFound", ALL[1]]


def test_a_file_that_is_gone(tmp_path):
    """Without the file the error says so."""
    path = tmp_path / "orders.py"
    module = load(path, BEFORE)
    path.unlink()
    with pytest.raises(SourceNotFound, match=r"orders.py is not there, or cannot be read; .*User\.age > 18"):
        find_source(code_of(module.found[0]))


def test_a_module_without_its_source(tmp_path):
    """A module that is shipped compiled has no source."""
    path = tmp_path / "orders.py"
    path.write_text(BEFORE, encoding="utf-8")
    py_compile.compile(path, cfile=tmp_path / "orders.pyc", doraise=True)
    path.unlink()
    module = imported(tmp_path / "orders.pyc")
    with pytest.raises(SourceNotFound, match=r"orders.py is not there"):
        find_source(code_of(module.found[0]))


def test_code_that_was_changed_while_it_was_imported(tmp_path):
    """Code that somebody has made another of is not that of the file."""
    module = load(tmp_path / "orders.py", "found = [lambda u: u.age > 1]")
    code = code_of(module.found[0])
    changed = code.replace(co_consts=tuple(2 if constant == 1 else constant for constant in code.co_consts))
    with pytest.raises(SourceNotFound, match=r"does not contain the lambda at orders\.py, line 1"):
        find_source(changed)


def test_other_code_has_no_expression(tmp_path):
    """The code of a class or of a comprehension is none of an expression that could be translated."""
    module = load(tmp_path / "orders.py", "class A:\n    x = 1\ndef f(): return [lambda: x for x in ()]\nfound = f")
    text = (tmp_path / "orders.py").read_text(encoding="utf-8")
    outer = compile(text, module.__file__, "exec", dont_inherit=True)
    with pytest.raises(SourceNotFound):
        find_source(outer)
    with pytest.raises(SourceNotFound):
        find_source(next(constant for constant in outer.co_consts if getattr(constant, "co_name", "") == "A"))
