"""From a code object to the text that it was compiled from, in files: each expression is found, and no other."""

from __future__ import annotations

import ast
import gc
import linecache
import sys
import threading
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbsession.query.translation import source as source_module
from dbsession.query.translation.source import find_source, place, segment
from tests.query.sources import code_of, codes_in, load

# --- where expressions stand ------------------------------------------------------------------------------------

# A program that puts what is to be found into `found`, and the texts that are to be found for it, in order.
PROGRAMS = {
    "one": ("found = [lambda u: u.age > 18]", ["lambda u: u.age > 18"]),
    "generator": ("found = [(u for u in () if u.age > 18)]", ["(u for u in () if u.age > 18)"]),
    "argument": ("found = [(lambda g: g)(u for u in ())]", ["(u for u in ())"]),
    "several": (
        "found = [lambda u: u.a, lambda u: u.b, (x for x in ())]",
        ["lambda u: u.a", "lambda u: u.b", "(x for x in ())"],
    ),
    "constants": (
        "found = [lambda u: True]; found.append(lambda u: 1 + 2); found += [lambda v: True]",
        ["lambda u: True", "lambda u: 1 + 2", "lambda v: True"],
    ),
    "nested lambdas": (
        "one = lambda: lambda: lambda: 1\nfound = [one, one(), one()()]",
        ["lambda: lambda: lambda: 1", "lambda: lambda: 1", "lambda: 1"],
    ),
    "nested generators": (
        "one = ((x for x in (y, z)) for y in (1,) for z in (2,))\nfound = [one, next(one)]",
        ["((x for x in (y, z)) for y in (1,) for z in (2,))", "(x for x in (y, z))"],
    ),
    "range": (
        "def keep(x): found.append(x); return ()\nfound = []; found = [(x for x in keep(y for y in ())), *found]",
        ["(x for x in keep(y for y in ()))", "(y for y in ())"],
    ),
    "lines": (
        "found = [\n    lambda u: (\n        u.age\n        > 18\n    ),\n(x\nfor x in ()\nif x),\n]",
        ["lambda u: ( u.age > 18 )", "(x for x in () if x)"],
    ),
    "comments": ("found = [lambda u: (u.age  # of the user\n> 18)]", ["lambda u: u.age > 18"]),
    "first column": ("found = [\nlambda u: u.a,\nlambda u: u.b]", ["lambda u: u.a", "lambda u: u.b"]),
    "backslash": ("a = 1; \\\n  found = [lambda: a]; b = [\nlambda: b]; found += b", ["lambda: a", "lambda: b"]),
    "continued": ("found = \\\n  [lambda: 1, \\\n  lambda: 2]", ["lambda: 1", "lambda: 2"]),
    "semicolons": ("f = lambda: 1; g = lambda: 2; found = [f, g]", ["lambda: 1", "lambda: 2"]),
    "defaults": (
        "def f(a=lambda: 0, *, b=lambda u: u.b, c=(x for x in ())): ...\nfound = [f.__defaults__[0], *f.__kwdefaults__.values()]",
        ["lambda: 0", "lambda u: u.b", "(x for x in ())"],
    ),
    "default of a lambda": (
        "one = lambda a=lambda: 1: a\nfound = [one, one()]",
        ["lambda a=lambda: 1: a", "lambda: 1"],
    ),
    "decorators": (
        (
            "found = []\ndef keep(*given): found.extend(given); return lambda f: f\n"
            "@keep(lambda u: u.a, lambda u: u.b)\n@(\n  keep(lambda u: u.c)\n)\ndef f(): ...\n@keep(lambda u: u.d)\nclass A: ..."
        ),
        ["lambda u: u.a", "lambda u: u.b", "lambda u: u.c", "lambda u: u.d"],
    ),
    "decorating lambda": (
        "found = []\n@lambda f: found.append(f) or f\ndef f(): return 1",
        ["@lambda f: found.append(f) or f def f(): return 1"],
    ),
    "f-string": (
        "def keep(x): found.append(x); return 1\nfound = []\nf'{keep(lambda u: u.a)} {{}} {keep(lambda u: u.b)!r:>{keep(lambda u: u.c)}}'",
        ["lambda u: u.a", "lambda u: u.b", "lambda u: u.c"],
    ),
    "nested f-string": (
        "def keep(x): found.append(x); return 1\nfound = []\nf'ä {f\"ö {keep(x for x in ())} {keep(lambda: 1)}\"} {keep(lambda: 2)}'",
        ["(x for x in ())", "lambda: 1", "lambda: 2"],
    ),
    "long f-string": (
        "def keep(x): found.append(x); return 1\nfound = []\nf'''\n{keep(lambda u: u.a)}\n  {keep(lambda u: u.b)} {keep(lambda u: u.c)}\n'''",
        ["lambda u: u.a", "lambda u: u.b", "lambda u: u.c"],
    ),
    "class": (
        "class A:\n    one, two = lambda self: 1, lambda self: 2\n    three = (x for x in (y for y in ()))\nfound = [A.one, A.two, A.three]",
        ["lambda self: 1", "lambda self: 2", "(x for x in (y for y in ()))"],
    ),
    "class in a function": (
        "def f(n):\n    class A:\n        one, two = lambda self: n, lambda self: n + 1\n    return A\nfound = [f(1).one, f(2).two]",
        ["lambda self: n", "lambda self: n + 1"],
    ),
    "mangled": (
        "class _Shop:\n    __p = 1\n    def m(self):\n        return [lambda: self.__p, (self.__p for x in ()), lambda __q: __q, lambda __q: __q.__q]\nfound = _Shop().m()",
        ["lambda: self.__p", "(self.__p for x in ())", "lambda __q: __q", "lambda __q: __q.__q"],
    ),
    "closures": (
        "def f(a):\n    def g(b): return [lambda: a, lambda: b, lambda: (a, b), lambda: a]\n    return g\nfound = f(1)(2)",
        ["lambda: a", "lambda: b", "lambda: (a, b)", "lambda: a"],
    ),
    "comprehensions": (
        "found = [f for x in (1,) for f in (lambda: x, (x for y in ()), lambda: (x, 1))]",
        ["lambda: x", "(x for y in ())", "lambda: (x, 1)"],
    ),
    "conditional": (
        "found = [lambda: 1 if found else 2, (lambda: 3) if 0 else (lambda: 4)]",
        ["lambda: 1 if found else 2", "lambda: 4"],
    ),
    "walrus": (
        "found = [one := lambda u: u.a, lambda u: (n := u.a) and n]",
        ["lambda u: u.a", "lambda u: (n := u.a) and n"],
    ),
    "annotations": (
        "from __future__ import annotations\ndef f(a: (lambda: 1)) -> (lambda: 2): return lambda u: u.a\nfound = [f(1)]",
        ["lambda u: u.a"],
    ),
    "imported names": (
        (
            "import datetime as dt, os.path\nfrom os import sep as s\nfrom math import *\nif 1:\n    import decimal\nother = 1\n"
            "found = [lambda u: dt.datetime.now(), lambda u: os.fspath(u), lambda u: s.join(u), lambda u: decimal.x(u), lambda u: other.x(u)]"
        ),
        [
            "lambda u: dt.datetime.now()",
            "lambda u: os.fspath(u)",
            "lambda u: s.join(u)",
            "lambda u: decimal.x(u)",
            "lambda u: other.x(u)",
        ],
    ),
    "not ASCII": (
        "é = 'äöü'; found = [lambda ü: ü.é == 'äöü', lambda ü: ü.é == 'äöü€😀', (ß for ß in '')]",
        ["lambda ü: ü.é == 'äöü'", "lambda ü: ü.é == 'äöü€😀'", "(ß for ß in '')"],
    ),
    "tabs and form feeds": (
        "class A:\n\tif 1:\n\t\tfound = [lambda:\t1, lambda:  2]\n\f\nfound = A.found",
        ["lambda: 1", "lambda: 2"],
    ),
    "strings like code": (
        'text = """\ndef f():\n    return lambda u: u.a\n"""\nfound = [lambda u: u.a]',
        ["lambda u: u.a"],
    ),
    "asynchronous": (
        (
            "class Empty:\n    def __aiter__(self): return self\n    def __anext__(self): ...\n"
            "async def f():\n    return [lambda: 1, (x async for x in Empty()), lambda: 2]\n"
            "try: f().send(None)\nexcept StopIteration as e: found = e.value"
        ),
        ["lambda: 1", "(x async for x in Empty())", "lambda: 2"],
    ),
    "function": ("def double(n):\n    return n * 2\nfound = [double]", ["def double(n): return n * 2"]),
    "property": (
        "class A:\n    @property\n    def name(self): return 'x'\n    @name.setter\n    def name(self, value): ...\nfound = [A.name]",
        ["@property def name(self): return 'x'"],
    ),
    "asynchronous function": ("async def f(): return 1\nfound = [f]", ["async def f(): return 1"]),
}


@pytest.mark.parametrize(("text", "wanted"), PROGRAMS.values(), ids=PROGRAMS)
def test_each_expression_is_found(tmp_path, text, wanted):
    """Each expression is found where it stands, and shown as it is written, without line ends and comments."""
    module = load(tmp_path / "orders.py", text)
    sources = [find_source(code_of(found)) for found in module.found]
    assert [segment(source, source.node) for source in sources] == wanted
    assert {source.filename for source in sources} == {str(tmp_path / "orders.py")}
    assert all(source.text == sources[0].text for source in sources)


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        (
            "found = [lambda u: u.x, lambda u: u.x, (y for y in ()), (y for y in ()), (y for y in ())]",
            [9, 24, 39, 56, 73],
        ),
        ("é = 'ä'; found = [lambda u: 'ö' + u.x, lambda u: 'ö' + u.x]", [20, 42]),
        ("found = [(x for x in (y for y in ()) if any(y for y in ())), (x for x in (y for y in ()) if 1)]", [9, 61]),
        ("def f():\n    return [lambda: f, lambda: f]\nfound = f()", [12, 23]),
    ],
)
def test_twins_are_told_apart(tmp_path, text, columns):
    """Equal expressions of one line are found each in its own place."""
    module = load(tmp_path / "orders.py", text)
    assert [find_source(code_of(found)).node.col_offset for found in module.found] == columns


def test_twins_that_are_one_to_python(tmp_path):
    """Where Python makes one code object of two expressions, the one that is found means the same."""
    module = load(tmp_path / "orders.py", "found = [lambda: 1 + 2, lambda: 3, lambda: 3]")
    for found in module.found:
        source = find_source(code_of(found))
        assert eval(compile(ast.Expression(source.node), "", "eval"))() == 3


def test_what_is_compiled_twice(tmp_path):
    """What stands in a `finally` is compiled for each way out, and found all the same."""
    text = "def f(n):\n    try:\n        if n: return 1\n    finally:\n        found.append(lambda: n)\nfound = []\nf(0); f(1)"
    module = load(tmp_path / "orders.py", text)
    assert [find_source(code_of(found)).node.lineno for found in module.found] == [5, 5]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the syntax is that of Python 3.12")
def test_type_parameters(tmp_path):
    """A function with type parameters is found, and what stands in it and in their bounds."""
    text = "def f[T: (int, str)](a: T, b=lambda: 1): return [b, lambda: a]\ntype A = list[int]\nfound = [f, *f(1)]"
    module = load(tmp_path / "orders.py", text)
    assert [type(find_source(code_of(found)).node) for found in module.found] == [
        ast.FunctionDef,
        ast.Lambda,
        ast.Lambda,
    ]


@pytest.mark.parametrize(
    "text",
    [
        "# -*- coding: latin-1 -*-\né = 'ä'; found = [lambda ü: ü.é == 'ö', lambda ü: ü.é == 'ß']".encode("latin-1"),
        b"\xef\xbb\xbffound = [lambda u: 1, lambda u: 2]",
        b"a = 1\r\nb = '''\r\n'''\r\nfound = [\r\n lambda u: b, lambda u: 2\r\n]\r\n",
        b"a = 1\rb = 2\rfound = [lambda u: 1, lambda u: 2]\r",
        b"\n\n# comment\nfound = [lambda u: 1, lambda u: 2] # no line end",
    ],
    ids=["latin-1", "byte order mark", "Windows", "old Macintosh", "no line end"],
)
def test_encodings_and_line_ends(tmp_path, text):
    """Files are read as Python reads them, whatever their encoding and their line ends."""
    module = load(tmp_path / "orders.py", text)
    sources = [find_source(code_of(found)) for found in module.found]
    columns = [source.node.col_offset for source in sources]
    assert len(columns) == 2
    assert columns == sorted(set(columns))
    assert all(segment(source, source.node).startswith("lambda") for source in sources)


def test_what_is_to_be_said_of_a_file_is_not_said_again(tmp_path):
    """Verifying warns of nothing: what Python says of a file, it says when the file is imported."""
    path = tmp_path / "orders.py"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = load(path, "def f():\n    return [lambda u: u.a == '\\d', lambda u: u.a is 5]\nfound = f()")
    before = list(warnings.filters)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert [find_source(code_of(found)).node.lineno for found in module.found] == [2, 2]
    assert told == []
    assert warnings.filters == before


# --- any program ------------------------------------------------------------------------------------------------

# Each expression has a number of its own in it, directly, by which its node and its code are told.
_EXPRESSIONS = st.recursive(
    st.just("x"),
    lambda inner: st.one_of(
        inner.map("(lambda: (#, {}))".format),
        st.tuples(inner, inner).map(lambda two: "(lambda a={}: (#, {}))".format(*two)),
        st.tuples(inner, inner).map(lambda two: "((#, {}) for x in ({},))".format(*two)),
        st.tuples(inner, inner).map(lambda two: "((#, x) for x in ({},) if {})".format(*two)),
        st.tuples(inner, inner).map("({0[0]},\n{0[1]})".format),
        st.tuples(inner, inner).map("[{0[0]}, {0[1]}]".format),
        inner.map("[{} for x in y]".format),
        inner.map("datetime.now({})".format),
        inner.map("'ä' + ({})".format),
    ),
    max_leaves=12,
)


def _numbered(texts):
    """Put the expressions into a program, and a number of its own into each."""
    text = "import datetime\nx = y = 1\ndef f(z):\n    return (\n" + ",".join(texts) + ")\n"
    pieces = text.split("#")
    return "".join(piece + str(100 + number) for number, piece in enumerate(pieces[:-1])) + pieces[-1]


def _own_number(node):
    """Return the number that stands in the expression *node* itself."""
    body = node.body if isinstance(node, ast.Lambda) else node.elt
    return body.elts[0].value


@settings(max_examples=150, deadline=None)
@given(st.lists(_EXPRESSIONS, min_size=1, max_size=4))
def test_any_expression(tmp_path_factory, texts):
    """In any program each code object leads to the expression that it was compiled from."""
    path = tmp_path_factory.getbasetemp() / "any.py"
    text = _numbered(texts)
    path.write_text(text, encoding="utf-8")
    for code in codes_in(compile(text, str(path), "exec", dont_inherit=True)):
        if code.co_name in {"<lambda>", "<genexpr>"}:
            numbers = [constant for constant in code.co_consts if isinstance(constant, int) and constant >= 100]
            assert _own_number(find_source(code).node) in numbers


# --- once -------------------------------------------------------------------------------------------------------


def test_it_is_looked_for_once(tmp_path, monkeypatch):
    """The second time costs a look into a dictionary, also for lambdas that are made anew in a loop."""
    module = load(tmp_path / "orders.py", "found = [lambda: n for n in range(3)]")
    one = find_source(code_of(module.found[0]))
    monkeypatch.setattr(source_module, "_look_for", None)
    assert all(find_source(code_of(found)) is one for found in module.found)


def test_a_file_is_parsed_once(tmp_path, monkeypatch):
    """After the first expression of a file the others cost their own statement, not the whole file."""
    text = "from datetime import datetime\n" + "".join(
        f"def f{number}(): return lambda u: datetime.now() > u.a{number}, lambda u: u.b\n" for number in range(50)
    )
    module = load(tmp_path / "orders.py", text)
    find_source(code_of(module.f1()[0]))
    compiled, compile_it = [], source_module._compile

    def spy(what, *others):
        compiled.append(what.strip().count("\n") + 1 if isinstance(what, str) else len(what.body))
        return compile_it(what, *others)

    monkeypatch.setattr(source_module, "_compile", spy)
    for one in module.f40():
        assert find_source(code_of(one)).node.lineno == 42
    assert compiled
    assert max(compiled) <= 2


def test_equal_code_of_two_files(tmp_path):
    """Code objects that Python takes for equal, as they differ in nothing but their files, are told apart."""
    modules = [load(tmp_path / name, "found = lambda u: u.age") for name in ("one.py", "two.py")]
    first, second = [code_of(module.found) for module in modules]
    assert first == second
    assert find_source(first).filename == str(tmp_path / "one.py")
    assert find_source(second).filename == str(tmp_path / "two.py")


def test_what_is_known_of_code_goes_with_it(tmp_path):
    """Nothing is kept of code that is gone, and no tree of a whole file."""
    text = "\n".join(f"def f{number}(): return lambda: {number}" for number in range(50))
    known = set(source_module._found)
    path = tmp_path / "orders.py"
    path.write_text(text, encoding="utf-8")
    namespace = {}
    exec(compile(text, str(path), "exec"), namespace)
    for number in range(50):
        find_source(namespace[f"f{number}"]().__code__)
    assert len(set(source_module._found) - known) == 50
    namespace.clear()
    gc.collect()
    assert set(source_module._found) <= known
    assert not any(isinstance(obj, ast.Module) for obj in gc.get_objects())


def test_files_are_not_kept_in_linecache(tmp_path):
    """A file is read without leaving its lines in memory."""
    module = load(tmp_path / "orders.py", "found = lambda u: u.age")
    find_source(code_of(module.found))
    assert str(tmp_path / "orders.py") not in linecache.cache


def test_threads_at_once(tmp_path):
    """Threads that ask for the same expression at the same time get the same answer."""
    text = "def f():\n    return [" + ", ".join(f"lambda u: u.a == {number}" for number in range(20)) + "]\nfound = f()"
    module = load(tmp_path / "orders.py", text)
    start, answers = threading.Barrier(6), []

    def ask():
        start.wait(60)
        answers.append([find_source(code_of(found)) for found in module.found])

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(answers) == 6
    for sources in zip(*answers, strict=True):
        assert all(source is sources[0] for source in sources)


def test_threads_that_parse_at_once(tmp_path, monkeypatch):
    """Python 3.11 may raise SystemError where several threads parse, whoever does; it is tried again."""
    module = load(tmp_path / "orders.py", "found = [lambda u: u.a, lambda u: u.b]")
    calls = []

    def compile_at_times(*arguments, **options):
        calls.append(arguments)
        if len(calls) % 3:
            raise SystemError("AST constructor recursion depth mismatch (before=18, after=10)")
        return compile(*arguments, **options)

    before = list(warnings.filters)
    monkeypatch.setattr(source_module, "compile", compile_at_times, raising=False)
    sources = [find_source(code_of(found)) for found in module.found]
    assert [segment(source, source.node) for source in sources] == ["lambda u: u.a", "lambda u: u.b"]
    assert len(calls) > 6
    assert warnings.filters == before


def test_code_that_is_traced_or_hot(tmp_path):
    """Code that runs under a debugger, or that the interpreter has made faster, is found as any other."""
    module = load(tmp_path / "orders.py", "def f(n): return n.real + 1\nfound = [lambda n: n.real + 1, f]")
    before = sys.gettrace()
    for found in module.found:
        for _ in range(1000):
            found(1)
        sys.settrace(lambda *_: lambda *_: None)
        try:
            found(1)
            source = find_source(code_of(found))
        finally:
            sys.settrace(before)
        assert source.node.lineno == 1 + (found is module.found[0])


# --- shown ------------------------------------------------------------------------------------------------------


def test_sub_expressions_are_shown(tmp_path):
    """A sub-expression is shown as it is written, in one line and shortened, with the line where it stands."""
    text = (
        "found = [lambda u: (u.name.startswith('ä')\n  and u.age>18  # of age\n  and u.born[1 : 2]\n"
        "  and all(o.total  >  1 for o in u.orders)\n  and " + " + ".join(f"u.attribute{n}" for n in range(10)) + ")]"
    )
    source = find_source(code_of(load(tmp_path / "orders.py", text).found[0]))
    values = source.node.body.values
    generator = values[3].args[0]
    shown = [*values, values[2].slice, generator, generator.generators[0], source.node.args]
    assert [(segment(source, node), place(source, node)) for node in shown] == [
        ("u.name.startswith('ä')", "orders.py, line 1"),
        ("u.age>18", "orders.py, line 2"),
        ("u.born[1 : 2]", "orders.py, line 3"),
        ("all(o.total > 1 for o in u.orders)", "orders.py, line 4"),
        (" + ".join(f"u.attribute{n}" for n in range(10))[:77] + "...", "orders.py, line 5"),
        ("1:2", "orders.py, line 3"),
        ("(o.total > 1 for o in u.orders)", "orders.py, line 4"),
        ("for o in u.orders", "orders.py, line 4"),
        ("u", "orders.py, line 1"),
    ]


def test_strings_are_shown_as_they_are(tmp_path):
    """Spaces and line ends within a string are not taken for those between words."""
    text = "found = [lambda u: u.a == 'x  y', lambda u: u.a == '''x\n y''']"
    module = load(tmp_path / "orders.py", text)
    sources = [find_source(code_of(found)) for found in module.found]
    assert [segment(source, source.node.body) for source in sources] == ["u.a == 'x  y'", "u.a == 'x\\n y'"]
