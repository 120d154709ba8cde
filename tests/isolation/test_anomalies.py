"""What each mode of a scope prevents, and how: the tables of docs/isolation.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import SELECTED
from tests.isolation import expected
from tests.isolation.cases import CASES
from tests.isolation.outcomes import ANOMALY, MODES, stand
from tests.isolation.page import PAGE, page

DATABASES = [*SELECTED, "sqlite-file"] if "sqlite" in SELECTED else SELECTED


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("db_url", DATABASES, indirect=True)
def test_a_row_of_the_table(db_url, case, request):
    """89, 93, 97, 104. Transactions that run at the same time, step by step: what comes of it in each mode, without retry and with it."""
    database = request.node.callspec.params["db_url"]
    with stand(db_url) as here:
        found = here.outcomes(case)
    assert {cell: outcome.word for cell, outcome in found.items()} == expected.table(database)[case.name]
    serializable = [found["serializable", retry] for retry in (False, True)]
    assert all(outcome.is_serial for outcome in serializable)
    assert serializable[1].all_committed


def test_the_two_versions_of_postgresql_agree():
    """There is one table for PostgreSQL, and both versions are held to it."""
    assert expected.DATABASES["postgresql-16"] is expected.DATABASES["postgresql-18"]


def test_serializable_has_no_anomaly_and_retry_no_error():
    """97, 104. With serializable=True nothing goes wrong anywhere; with retry nothing fails that the database can do again."""
    for database in expected.DATABASES:
        for case, row in expected.table(database).items():
            assert ANOMALY not in {row["serializable", False], row["serializable", True]}, case
            assert not any(row[mode, True].endswith(("Error", "Conflict", "Detected")) for mode in MODES), case


def test_the_page_is_what_the_runs_give():
    """docs/isolation.md has these tables: `python -m tests.isolation` runs all cases and writes it."""
    tables = {database: expected.table(database) for database in expected.DATABASES}
    assert Path(PAGE).read_text(encoding="utf-8") == page(tables)
