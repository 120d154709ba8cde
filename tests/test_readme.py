"""What the README shows works as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def examples() -> list[str]:
    """Return the Python examples of the README."""
    return re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)


def run(program: str, folder: Path) -> str:
    """Run *program* as a file in *folder*, and return what it prints; it must not fail, nor warn."""
    (folder / "shop.py").write_text(program, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", "shop.py"],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_first_example_runs_in_an_empty_folder_and_again(tmp_path: Path) -> None:
    """The first example is a whole program: it makes its database, prints what was ordered, and runs a second time."""
    first = examples()[0]
    assert run(first, tmp_path) == "1 12.5\nnew 12.5\n"
    assert run(first, tmp_path) == "2 12.5\nnew 25.0\n"


def test_all_examples_run_one_after_the_other(tmp_path: Path) -> None:
    """Each further example goes on where the one before it has ended."""
    program = "\n".join(examples())
    assert run(program, tmp_path) == "1 12.5\nnew 12.5\nnew 2\n"
    assert run(program, tmp_path) == "3 12.5\nnew 32.5\nnew 4\n"


def test_every_file_that_the_readme_links_to_is_there() -> None:
    """No link of the README leads nowhere."""
    links = re.findall(r"\]\(([^)#:]+)[^)]*\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
