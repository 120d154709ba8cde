"""From a code object to the text that it was compiled from, wherever code comes from: prompts, cells, archives."""

from __future__ import annotations

import ast
import doctest
import linecache
import os
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path
from textwrap import dedent

import pytest

from dbsession import SourceNotFound
from dbsession.query.translation.source import find_source, place, segment
from tests.query.sources import code_of

ROOT = Path(__file__).resolve().parent.parent.parent

# What the programs below begin with: show(f) prints the text of f, or the error.
SHOW = """\
from dbsession import SourceNotFound
from dbsession.query.translation.source import find_source, segment
from tests.query.sources import code_of
def show(*found):
    for one in found:
        try: source = find_source(code_of(one)); print("found", segment(source, source.node))
        except SourceNotFound as error: print("error", error)

"""


def run(*arguments, stdin="", cwd=ROOT, **environment):
    """Run Python with *arguments* and return the lines that `show` has printed."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(
        [sys.executable, *arguments],
        input=stdin,
        cwd=cwd,
        env={**inherited, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", "PYTHONDONTWRITEBYTECODE": "1", **environment},
        capture_output=True,
        encoding="utf-8",
        timeout=100,
        check=False,
    )
    lines = [line.lstrip("> .") for line in done.stdout.splitlines()]
    shown = [line for line in lines if line.startswith(("found", "error"))]
    assert shown, done.stdout + done.stderr
    return shown


def found(*texts):
    """Return what `show` prints for what is found."""
    return [f"found {text}" for text in texts]


def run_in(linecache_name, text, **namespace):
    """Run *text* as notebooks do: from no file, with its lines in linecache."""
    lines = [line + "\n" for line in text.split("\n")]
    linecache.cache[linecache_name] = (len(text), None, lines, linecache_name)
    exec(compile(text, linecache_name, "exec"), namespace)
    return namespace


@pytest.fixture(autouse=True)
def clean_linecache():
    """Forget the cells of a test."""
    before = set(linecache.cache)
    yield
    for name in set(linecache.cache) - before:
        del linecache.cache[name]


# --- text that is in memory ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["<ipython-input-1-0123abcd>", "/tmp/ipykernel_77/123.py", "<python-input-0>", "<cell>"]
)
def test_lines_in_linecache(name):
    """What is not in a file is found by the lines that its maker has left in linecache."""
    cell = run_in(name, "limit = 3\nfound = [lambda u: u.é > limit, lambda u: u.é > limit]")
    sources = [find_source(code_of(one)) for one in cell["found"]]
    assert [source.node.col_offset for source in sources] == [9, 33]
    assert [segment(source, source.node) for source in sources] == ["lambda u: u.é > limit"] * 2
    assert place(sources[0], sources[0].node) == f"{Path(name).name}, line 2"
    assert sources[0].text == "limit = 3\nfound = [lambda u: u.é > limit, lambda u: u.é > limit]\n"


@pytest.mark.parametrize("line_end", ["\r\n", "\r"])
def test_line_ends_in_linecache(line_end):
    """What others have left in linecache may have the line ends of other systems."""
    text = line_end.join(["a = 1", "found = [lambda u: u.a,", "lambda u: u.b]", ""])
    linecache.cache["<cell>"] = (len(text), None, text.splitlines(keepends=True), "<cell>")
    namespace = {}
    exec(compile(text, "<cell>", "exec"), namespace)
    sources = [find_source(code_of(one)) for one in namespace["found"]]
    assert [segment(source, source.node) for source in sources] == ["lambda u: u.a", "lambda u: u.b"]


def test_cells_of_one_name():
    """A cell that is run again in another form, under the same name, is found in its own form only."""
    old = run_in("<cell>", "found = lambda u: u.a")["found"]
    new = run_in("<cell>", "found = lambda u: u.b")["found"]
    source = find_source(code_of(new))
    assert segment(source, source.node) == "lambda u: u.b"
    with pytest.raises(SourceNotFound):
        find_source(code_of(old))


def test_lines_that_are_no_source():
    """What is in linecache may be no Python, or no text."""
    for lines in (["<html>\n"], ["lambda: \ud800\n"], ["\0\n"], ["\n"]):
        linecache.cache["<cell>"] = (1, None, lines, "<cell>")
        with pytest.raises(SourceNotFound):
            find_source(compile("lambda: 1", "<cell>", "eval").co_consts[0])


def test_cells_with_inherited_futures():
    """`from __future__ import ...` in an earlier cell holds for the later ones, whose text does not say so."""
    text = "found = lambda u: u.a"
    linecache.cache["<cell>"] = (len(text), None, [text + "\n"], "<cell>")
    namespace = {}
    exec(compile(text, "<cell>", "exec", flags=annotations.compiler_flag, dont_inherit=True), namespace)
    assert code_of(namespace["found"]).co_flags & annotations.compiler_flag
    assert isinstance(find_source(code_of(namespace["found"])).node, ast.Lambda)


def test_cells_that_await():
    """A cell may await on its top level."""
    text = "import asyncio\nfound = [lambda u: u.a, await asyncio.sleep(0)]"
    linecache.cache["<cell>"] = (len(text), None, [line + "\n" for line in text.split("\n")], "<cell>")
    outermost = compile(text, "<cell>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    namespace = {}
    with pytest.raises(StopIteration):
        cell = eval(outermost, namespace)
        while True:
            cell.send(None)
    source = find_source(code_of(namespace["found"][0]))
    assert segment(source, source.node) == "lambda u: u.a"


def test_a_string_without_lines():
    """Code of a string has no source; the error says so, and what to write instead."""
    namespace = {}
    exec("def f(): return lambda u: u.a\nmake = lambda u: u.b\ngenerator = (x for x in ())", namespace)
    kinds = {"f": r"function f\(\) at <string>, line 1", "make": "lambda at <string>, line 2"}
    kinds["generator"] = "generator expression at <string>, line 3"
    for name, kind in kinds.items():
        with pytest.raises(SourceNotFound, match=kind) as caught:
            find_source(code_of(namespace[name]))
        assert "came from a string" in str(caught.value)
        assert "User.select(User.age > 18), or put it into a file" in str(caught.value)


# --- archives and other forms of files ----------------------------------------------------------------------------


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_a_module_in_an_archive(tmp_path, monkeypatch, line_end):
    """What is imported from an archive is found by the module's loader."""
    text = line_end.join(["a = '''", "'''", "found = [lambda u: u.a,", "lambda u: u.b]"])
    with zipfile.ZipFile(tmp_path / "shop.zip", "w") as archive:
        archive.writestr("shop_in_an_archive/__init__.py", "")
        archive.writestr("shop_in_an_archive/orders.py", text)
    monkeypatch.syspath_prepend(tmp_path / "shop.zip")
    from shop_in_an_archive import orders

    sources = [find_source(code_of(one)) for one in orders.found]
    assert [segment(source, source.node) for source in sources] == ["lambda u: u.a", "lambda u: u.b"]
    assert place(sources[1], sources[1].node) == "orders.py, line 4"


def test_a_program_in_an_archive(tmp_path):
    """The main module of an archive is found as well."""
    with zipfile.ZipFile(tmp_path / "shop.zip", "w") as archive:
        archive.writestr("__main__.py", SHOW + "show(lambda u: u.a, lambda u: u.a)\n")
    assert run(str(tmp_path / "shop.zip")) == found("lambda u: u.a", "lambda u: u.a")


def test_a_script_that_goes_elsewhere(tmp_path):
    """A script that was started by a relative path is found after it has gone to another folder."""
    text = SHOW + "import os; os.chdir('/')\nshow(lambda u: u.a)\n"
    (tmp_path / "script.py").write_text(text, encoding="utf-8")
    assert run("script.py", cwd=tmp_path) == found("lambda u: u.a")
    assert run("-m", "script", cwd=tmp_path, PYTHONPATH=f"{ROOT}{os.pathsep}.") == found("lambda u: u.a")


OPTIONS_SCRIPT = '''
class A:
    """What -OO leaves out."""
    __p = 1
    def m(self):
        "And this."
        assert self
        return [lambda: self.__p, (self.__p for x in ()), lambda: self.__p + __debug__, lambda: self.__p]
    @property
    def p(self):
        "And this."
        return self.__p
show(*A().m(), A.p)
'''


@pytest.mark.parametrize("options", [[], ["-O"], ["-OO"], ["-X", "no_debug_ranges"], ["-OO", "-X", "no_debug_ranges"]])
def test_options_of_the_interpreter(tmp_path, options):
    """The text is compiled with the options of the running interpreter; without columns, too, none is mixed up."""
    (tmp_path / "script.py").write_text(SHOW + OPTIONS_SCRIPT, encoding="utf-8")
    wanted = ["lambda: self.__p", "(self.__p for x in ())", "lambda: self.__p + __debug__", "lambda: self.__p"]
    property_text = '@property def p(self): """And this.""" return self.__p'
    assert run(*options, "script.py", cwd=tmp_path) == found(*wanted, property_text)


def test_a_module_that_was_compiled_with_other_options(tmp_path):
    """A __pycache__ that was written without columns is not that of the source; the error names that cause."""
    (tmp_path / "orders.py").write_text("found = lambda u: u.a", encoding="utf-8")
    text = SHOW + "import orders\nshow(orders.found)\n"
    (tmp_path / "script.py").write_text(text, encoding="utf-8")
    options = ["-X", "no_debug_ranges"]
    assert run(*options, "script.py", cwd=tmp_path, PYTHONDONTWRITEBYTECODE="") == found("lambda u: u.a")
    shown = run("script.py", cwd=tmp_path)
    assert "its __pycache__ was written by another Python or with other options" in shown[0]


# --- prompts ------------------------------------------------------------------------------------------------------

TYPED = (
    SHOW + "show(lambda u: u.é, (u for u in () if u), lambda u: u.é)\nfor f in [lambda: 1, lambda: 1 + 1]: show(f)\n\n"
)
TYPED_FOUND = found("lambda u: u.é", "(u for u in () if u)", "lambda u: u.é", "lambda: 1", "lambda: 1 + 1")


@pytest.mark.parametrize("options", [["-i"], ["-c", TYPED], ["-"]], ids=["prompt", "command", "pipe"])
def test_what_is_typed(options):
    """What is typed at the prompt or stands in a command is found if Python keeps it, as it does from 3.13 on."""
    shown = run("-q", *options, stdin=TYPED if "-c" not in options else "")
    if sys.version_info >= (3, 13) and "-" not in options:
        assert shown == TYPED_FOUND
    else:
        assert len(shown) == 5
        assert all(line.startswith("error") and "a prompt that keeps no source" in line for line in shown)
        assert all("User.select(User.age > 18), or put it into a file" in line for line in shown)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="the prompt of Python 3.13")
def test_the_coloured_prompt():
    """At the prompt that Python has since 3.13 each input is a text of its own, of one or several lines."""
    text = """
    from _pyrepl.console import InteractiveColoredConsole
    import linecache
    console = InteractiveColoredConsole(globals())
    for number, typed in enumerate(TYPED):
        name = f"<python-input-{number}>"
        linecache._register_code(name, typed, "<stdin>")
        assert not console.push(typed, filename=name, _symbol="single")
    """
    typed = [
        "a = 1; show(lambda u: u.é); show(lambda u: u.é)",
        "def f(x):\n    'Doc.'\n    return [lambda: x, lambda: x]\n",
    ]
    program = SHOW + f"TYPED = {[*typed, 'show(*f(1))']!r}\n" + dedent(text)
    assert run("-c", program) == found("lambda u: u.é", "lambda u: u.é", "lambda: x", "lambda: x")


CELLS = [
    SHOW,
    "from __future__ import annotations",
    "limit = 1\nshow(lambda u: u.é > limit, lambda u: u.é > limit)",
    "x = %pwd\nshow(u for u in () if u)",
    "x = !echo 1\nshow(lambda u: x)",
    "import asyncio\nawait asyncio.sleep(0)\nshow(lambda u: limit)",
    "def f(): return [lambda: 1, lambda: 2]\nshow(*f())",
]


@pytest.mark.skipif(find_spec("IPython") is None, reason="IPython is not installed")
def test_ipython(tmp_path):
    """In IPython each cell is a text of its own, also where it has magics, or awaits."""
    program = f"""
    from IPython.core.interactiveshell import InteractiveShell
    shell = InteractiveShell.instance()
    for cell in {CELLS!r}:
        shell.run_cell(cell, store_history=True).raise_error()
    """
    shown = run("-c", dedent(program), IPYTHONDIR=str(tmp_path), HOME=str(tmp_path))
    two, twins = ["lambda: 1", "lambda: 2"], ["lambda u: u.é > limit"] * 2
    assert shown == found(*twins, "(u for u in () if u)", "lambda u: x", "lambda u: limit", *two)


# --- tests --------------------------------------------------------------------------------------------------------


def test_doctest():
    """The examples of a doctest are found, each as a text of its own."""
    examples = """
    >>> limit = 1
    >>> show(lambda u: u.é > limit, lambda u: u.é > limit)
    found lambda u: u.é > limit
    found lambda u: u.é > limit
    >>> def f():
    ...     return [
    ...         (u for u in () if u),
    ...         lambda: 1]
    >>> show(*f())
    found (u for u in () if u)
    found lambda: 1
    """
    namespace = {}
    exec(SHOW, namespace)
    test = doctest.DocTestParser().get_doctest(dedent(examples), namespace, "orders", "orders.md", 0)
    told = []
    assert doctest.DocTestRunner().run(test, out=told.append).failed == 0, "".join(told)


def test_asserts_that_pytest_rewrites():
    """Expressions within an `assert`, which pytest compiles to something else, are found as any other."""
    limit = 1
    one, two = [lambda u: u.a > limit, lambda u: u.a > limit]

    def shown(*functions):
        return [segment(find_source(code_of(f)), find_source(code_of(f)).node) for f in functions]

    assert shown(one, two) == ["lambda u: u.a > limit"] * 2
    assert shown(lambda u: u.a > limit, (x for x in () if x)) == ["lambda u: u.a > limit", "(x for x in () if x)"]
    assert "lambda: 1" in shown(lambda: 1), f"not {shown(lambda: 2)}"
    assert shown(lambda u: u.a > limit) and [shown(lambda: u) for u in range(2)] == [["lambda: u"], ["lambda: u"]]  # noqa: B023 (never called)
    assert (f := lambda u: u.b) and shown(f) == ["lambda u: u.b"]
    assert find_source(code_of(one)).node.col_offset < find_source(code_of(two)).node.col_offset


def test_a_module_that_pytest_rewrites(tmp_path):
    """In a module of tests everything but the functions with asserts in themselves is found."""
    text = """
    import pytest
    class Order:
        total = 3
        @property
        def double(self): return self.total * 2
        def checked(self):
            assert self.total
            return lambda: self.total
    def test_orders():
        assert list(u for u in ()) == [], (lambda: "shown on failure")
        show(lambda u: u.a, Order.double, Order().checked())
    """
    (tmp_path / "test_orders.py").write_text(SHOW + dedent(text), encoding="utf-8")
    shown = run(
        "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path), cwd=tmp_path
    )
    assert shown == found("lambda u: u.a", "@property def double(self): return self.total * 2", "lambda: self.total")
