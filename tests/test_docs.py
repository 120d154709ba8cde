"""What the pages of docs/ show works as it stands there, and gives what they say it gives."""

from __future__ import annotations

import doctest
import linecache
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted((ROOT / "docs").glob("*.md"))


class Block(NamedTuple):
    """A block of Python on a page: the line where it begins, and whether it is a dialogue with ``>>>``."""

    line: int
    text: str

    @property
    def is_dialogue(self) -> bool:
        return self.text.startswith(">>> ")


def blocks(page: Path) -> list[Block]:
    """Return the blocks of Python of *page* in their order."""
    text = page.read_text(encoding="utf-8")
    found = re.finditer(r"```python\n(.*?)```", text, re.DOTALL)
    return [Block(text.count("\n", 0, block.start(1)), block[1]) for block in found]


DIALOGUES = [page for page in PAGES if any(block.is_dialogue for block in blocks(page))]
PROGRAMS = [page for page in PAGES if blocks(page) and page not in DIALOGUES]


@pytest.mark.parametrize("page", PROGRAMS, ids=lambda page: page.stem)
def test_the_examples_of_a_page_run(page: Path, tmp_path: Path) -> None:
    """The examples of a page, from its top to its end, run without an error or a warning."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join([block.text for block in blocks(page)])],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    """No link of a page leads nowhere, and every page is in the table of contents."""
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []
    assert page.name in (ROOT / "mkdocs.yml").read_text(encoding="utf-8")


# --- dialogues --------------------------------------------------------------------------------------------


class Checker(doctest.OutputChecker):
    """Takes the SQL that a page shows, which is that of SQLite, for that of PostgreSQL, too."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        if super().check_output(want, got, optionflags):
            return True
        return want.startswith("SELECT ") and super().check_output(
            want.lower(), got.replace("%s", "?").lower(), optionflags
        )


def run_program(block: Block, page: Path, names: dict[str, Any]) -> None:
    """Run a block that says no results; what is written in it has a source, as in a file."""
    filename = f"<{page.name}, line {block.line}>"
    linecache.cache[filename] = (len(block.text), None, block.text.splitlines(keepends=True), filename)
    exec(compile(block.text, filename, "exec"), names)


def run_dialogue(block: Block, page: Path, names: dict[str, Any]) -> list[str]:
    """Run a block with results, in a scope of its own, and return what is wrong with them."""
    wrong: list[str] = []
    runner = doctest.DocTestRunner(Checker(), verbose=False, optionflags=doctest.NORMALIZE_WHITESPACE)
    test = doctest.DocTestParser().get_doctest(block.text, {}, f"line {block.line}", page.name, block.line)
    test.globs = names
    with names["db_session"]:
        runner.run(test, out=wrong.append, clear_globs=False)
    return wrong


@pytest.mark.parametrize("page", DIALOGUES, ids=lambda page: page.stem)
def test_the_dialogues_of_a_page_go_as_shown(page: Path, db_url: str) -> None:
    """The blocks of a page share their names; every result is the one that is shown, on every database."""
    names: dict[str, Any] = {"__name__": page.stem}
    wrong: list[str] = []
    for block in blocks(page):
        here = block._replace(text=block.text.replace('"sqlite://"', repr(db_url)))
        if here.is_dialogue:
            wrong += run_dialogue(here, page, names)
        else:
            run_program(here, page, names)
    names["db"].close()
    assert not wrong, "".join(wrong)
