"""The text of docs/isolation.md, from what came of the cases."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.isolation.cases import CASES
from tests.isolation.expected import Table
from tests.isolation.outcomes import ANOMALY, MODES, NOTHING, RETRIED, WAITS

__all__ = ["PAGE", "page"]

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "isolation.md"

_INTRODUCTION = """\
# Isolation

Scopes that run at the same time read and write the same rows. This page says what each mode of `db_session` promises
then, which one to choose, and what becomes of the known anomalies in each.

The tables are the result of a program: it runs every case with real connections at the same time, in an order of steps
that is fixed, on SQLite and on PostgreSQL 16 and 18. The tests run the same cases and compare.

## What each mode promises

| You write | It promises | How |
| :-- | :-- | :-- |
| `@db_session` | An object is changed or deleted only if what the scope has read of it is still so. What was read of *other* objects may have changed by then, and what is written without having been read replaces what is there. | Each UPDATE and DELETE compares what was read (`OptimisticCheckError`). Reads see what is committed at that moment. Nothing is locked before the first write, and no round trip is added |
| `User.get_for_update(...)`, `query.for_update()` | What was read so stays as it is until the transaction ends. | The rows are locked, and whoever wants them waits. PostgreSQL cannot lock rows that do not exist, or do not fit the condition yet; SQLite locks the whole database |
| `@db_session(isolation="repeatable read")` | All reads show the database as it was at the first one. No change that was made since is overwritten. | PostgreSQL: a snapshot, and a `SerializationConflict` for whoever writes a row that has changed since. SQLite: as `serializable` |
| `@db_session(serializable=True)` | As if the scopes ran one after the other. | PostgreSQL watches what was read and fails a scope that would contradict every order (`SerializationConflict`). SQLite lets one scope after the other in, from its first statement on |

Add `retry=3` to any of them: a function whose scope was refused is run again from the start, with fresh objects, and then
works with what is there. Without `retry` the error leaves the scope, and nothing of it is saved.

## Which one to choose

- **`@db_session(retry=3)`** where a scope changes the objects that it has looked at. That is most code.
- **`for_update()`** where many scopes want the same few rows: waiting costs less there than running again. Take locks in
  the same order everywhere, or expect `DeadlockDetected`.
- **`isolation="repeatable read"`** for reports, which read much and have to agree with themselves; with `read_only=True` they
  do not block the writer on SQLite either.
- **`serializable=True, retry=10`** where a rule spans several rows, or rows that do not exist yet: a sum that must stay above
  zero, a room that is booked once. It is the only mode in which nobody has to think of what others do.
- Unique keys, foreign keys and checks of the database hold in every mode. Where one of them can say the rule, let it.
"""

_LEGEND = f"""\
## What happens

- **{ANOMALY}**: it happens: what was seen and what is left is not what these scopes give one after the other.
- {NOTHING}: nobody waits, and nobody fails.
- {WAITS}: it does not occur, since one scope waits until another one has ended.
- the name of an error: it does not occur, since one scope gets this error, and nothing of it is saved; *{RETRIED}*: with
  `retry` that scope is run again, and the result is that of an order of the scopes, one after the other.
"""


def _cell(row: Mapping[tuple[str, bool], str], mode: str) -> str:
    without, with_retry = row[mode, False], row[mode, True]
    if without == ANOMALY:
        text = f"**{ANOMALY}**"
    elif without in {NOTHING, WAITS}:
        text = without
    else:
        text = f"`{without}`"
    return text if with_retry == without else f"{text}, *{with_retry}*"


def _table(table: Table) -> str:
    lines = [f"| | {' | '.join(MODES)} |", "| :-- |" + " :-- |" * len(MODES)]
    lines += [f"| {case} | {' | '.join(_cell(row, mode) for mode in MODES)} |" for case, row in table.items()]
    return "\n".join(lines)


_IN_MEMORY = """\
That is a file. In memory (`sqlite://`) readers wait for the writer, too, so that these wait in every mode:
"""

_CASES = "\n".join(f"- **{case.name}**: {case.story}" for case in CASES.values())

_SOURCES = """\
The names in parentheses are those of Adya, *Weak Consistency* (1999), and of Berenson and others, *A Critique of ANSI SQL
Isolation Levels* (1995).

`python -m tests.isolation` runs the cases, and writes this page.
"""


def page(tables: Mapping[str, Table]) -> str:
    """Return the page; *tables* are the outcomes by database."""
    file, memory = tables["sqlite-file"], tables["sqlite"]
    others = [case for case in file if memory[case] != file[case]]
    assert all(set(memory[case].values()) == {WAITS} for case in others)
    parts = [
        _INTRODUCTION,
        _LEGEND,
        f"### PostgreSQL 16 and 18\n\n{_table(tables['postgresql-18'])}\n",
        f"### SQLite\n\n{_table(file)}\n",
        _IN_MEMORY + f"{'; '.join(others)}.\n",
        f"### The cases\n\n{_CASES}\n",
        _SOURCES,
    ]
    return "\n".join(parts)
