"""What mypy and pyright say to user code: types of attributes and verbs, and errors where there are some."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CASES = sorted(Path(__file__).parent.glob("*_cases.py"))

Found = list[tuple[str, int, str]]  # file, line, code


def expected(checker: str) -> Counter[tuple[str, int, str]]:
    """Return the errors that the comments of the cases announce."""
    found: Counter[tuple[str, int, str]] = Counter()
    for path in CASES:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            _, announced, codes = line.partition("# error: ")
            if announced and number > 5:  # the module's docstring shows the form
                found.update((path.name, number, code) for code in re.findall(rf"{checker}\[([\w-]+)\]", codes))
    return found


def run_mypy() -> tuple[Found, str]:
    command = [sys.executable, "-m", "mypy", "--output=json", "--python-executable", sys.executable]
    done = subprocess.run([*command, *map(str, CASES)], cwd=ROOT, capture_output=True, text=True, check=False)
    reports = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    ours = {path.name for path in CASES}
    errors = [each for each in reports if each["severity"] == "error" and Path(each["file"]).name in ours]
    return [(Path(each["file"]).name, each["line"], each["code"]) for each in errors], done.stdout + done.stderr


def run_pyright() -> tuple[Found, str]:
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable]
    done = subprocess.run([*command, *map(str, CASES)], cwd=ROOT, capture_output=True, text=True, check=False)
    reports = json.loads(done.stdout[done.stdout.index("{") :])["generalDiagnostics"] if "{" in done.stdout else []
    errors = [each for each in reports if each["severity"] == "error"]
    text = "\n".join(f"{each['range']['start']['line'] + 1}: {each['message']}" for each in errors)
    found = [(Path(each["file"]).name, each["range"]["start"]["line"] + 1, each.get("rule", "?")) for each in errors]
    return found, text + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("checker", "run"), [("mypy", run_mypy), ("pyright", run_pyright)])
def test_type_checkers_understand_user_code(checker, run):
    """Attributes have their declared types, verbs return entities, mistakes are found, and nothing else is."""
    announced = expected(checker)
    found, output = run()
    assert announced, "no errors are announced: the comments were not understood"
    assert Counter(found) == announced, output
