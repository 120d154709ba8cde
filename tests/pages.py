"""The pages of docs/ as programs: their blocks of Python, in order, run in one namespace."""

from __future__ import annotations

import doctest
import linecache
import re
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["PAGES", "ROOT", "Block", "blocks", "run_dialogue", "run_program"]

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted((ROOT / "docs").glob("*.md"))


class Block(NamedTuple):
    """A block of Python on a page: the lines above it, and its text."""

    line: int
    text: str

    @property
    def is_dialogue(self) -> bool:
        """Whether it shows results, behind ``>>>``."""
        return self.text.startswith(">>> ")

    def of(self, url: str) -> Block:
        """Return this for the database at *url*."""
        return self._replace(text=self.text.replace('"sqlite://"', repr(url)))


def blocks(page: Path) -> list[Block]:
    """Return the blocks of Python of *page* in their order."""
    text = page.read_text(encoding="utf-8")
    found = re.finditer(r"```python\n(.*?)```", text, re.DOTALL)
    return [Block(text.count("\n", 0, block.start(1)), block[1]) for block in found]


def run_program(block: Block, page: Path, names: dict[str, Any]) -> None:
    """Run a block without results; what is written in it has a source, as in a file."""
    filename = f"<{page.name}, line {block.line + 1}>"
    linecache.cache[filename] = (len(block.text), None, block.text.splitlines(keepends=True), filename)
    exec(compile(block.text, filename, "exec"), names)


class _Checker(doctest.OutputChecker):
    """Takes the SQL that a page shows, which is that of SQLite, for that of PostgreSQL, too."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        if super().check_output(want, got, optionflags):
            return True
        told_by_postgres = got.replace("%s", "?").lower()
        return want.startswith("SELECT ") and super().check_output(want.lower(), told_by_postgres, optionflags)


def run_dialogue(block: Block, page: Path, names: dict[str, Any]) -> list[str]:
    """Run a block with results, in a scope of its own, and return what is wrong with them."""
    wrong: list[str] = []
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    runner = doctest.DocTestRunner(_Checker(), verbose=False, optionflags=flags)
    test = doctest.DocTestParser().get_doctest(block.text, {}, f"{page.stem}-{block.line}", page.name, block.line)
    test.globs = names  # get_doctest() would give it a copy
    with names["db_session"]:
        runner.run(test, out=wrong.append, clear_globs=False)
    return wrong
