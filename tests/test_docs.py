"""What the pages of docs/ show works as it stands there, and gives what they say it gives."""

from __future__ import annotations

import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from tests.pages import PAGES, ROOT, blocks, run_dialogue, run_program

DIALOGUES = [page for page in PAGES if any(block.is_dialogue for block in blocks(page))]
PROGRAMS = [page for page in PAGES if blocks(page) and page not in DIALOGUES]


@pytest.mark.parametrize("page", PROGRAMS, ids=lambda page: page.stem)
def test_the_examples_of_a_page_run(page: Path, tmp_path: Path) -> None:
    """The examples of a page, from its top to its end, run without an error or a warning."""
    program = tmp_path / "page.py"  # a file, in which generator expressions have a source
    program.write_text("\n".join([block.text for block in blocks(page)]), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", program.name],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("page", DIALOGUES, ids=lambda page: page.stem)
def test_the_dialogues_of_a_page_go_as_shown(page: Path, db_url: str) -> None:
    """The blocks of a page share their names; every result is the one that is shown, on every database."""
    names: dict[str, Any] = {"__name__": page.stem}
    wrong: list[str] = []
    for block in blocks(page):
        if block.is_dialogue:
            wrong += run_dialogue(block, page, names)
        else:
            run_program(block.of(db_url), page, names)
    names["db"].close()
    assert not wrong, "".join(wrong)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    """No link of a page leads nowhere, and every page is in the table of contents."""
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert [link for link in links if not (page.parent / link).exists()] == []
    headings = [
        re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in re.findall("^#+ (.*)", text, re.MULTILINE)
    ]
    assert [link for link in re.findall(r"\]\(#([^)]+)\)", text) if link not in headings] == []
    assert page.name in (ROOT / "mkdocs.yml").read_text(encoding="utf-8")


def test_every_file_stands_in_the_house() -> None:
    """The list of files in docs/design.md has every module, and no other."""
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"[\w*]+\.py\b", text.partition("## The house")[2].partition("Imports go one way")[0]))
    found = [path for path in (ROOT / "dbsession").glob("*/*.py") if path.name != "__init__.py"]
    assert [str(path) for path in found if not any(fnmatch(path.name, name) for name in listed)] == []
    names = [path.name for path in (ROOT / "dbsession").rglob("*.py")]
    assert [name for name in listed if not any(fnmatch(each, name) for each in names)] == []


@pytest.mark.parametrize("name", ["CHANGELOG.md", "README.md", *[f"docs/{page.name}" for page in PAGES]])
def test_no_page_has_marks_of_a_merge(name: str) -> None:
    """No line of a page is one of those that git leaves where two versions differ."""
    text = (ROOT / name).read_text(encoding="utf-8")
    assert re.findall(r"^(?:<{7}|={7}|>{7})(?: .*)?$", text, re.MULTILINE) == []
