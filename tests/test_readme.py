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


def test_the_example_runs_in_an_empty_folder_and_again(tmp_path: Path) -> None:
    """The first example is a whole program: it makes its database, prints what was ordered, and runs a second time."""
    (example,) = examples()
    (tmp_path / "shop.py").write_text(example, encoding="utf-8")
    for number, spent in (("1", "12.5"), ("2", "25.0")):
        done = subprocess.run(
            [sys.executable, "-W", "error", "shop.py"],
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.stderr == ""
        assert done.stdout == f"{number} 12.5\nnew {spent}\n"


def test_every_file_that_the_readme_links_to_is_there() -> None:
    """No link of the README leads nowhere."""
    links = re.findall(r"\]\(([^)#:]+)[^)]*\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
