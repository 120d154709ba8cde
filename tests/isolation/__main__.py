"""``python -m tests.isolation`` runs every case on every database, and writes docs/isolation.md."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.isolation.cases import CASES
from tests.isolation.expected import Table
from tests.isolation.outcomes import stand
from tests.isolation.page import PAGE, page
from tests.servers import VERSIONS, Keeper, request_server


def urls(folder: str, keeper: Keeper) -> Iterator[tuple[str, str]]:
    """Yield the name and the URL of an empty database of each kind."""
    yield "sqlite", "sqlite://"
    yield "sqlite-file", f"sqlite:///{folder}/isolation.db"
    for version in VERSIONS:
        yield f"postgresql-{version}", request_server(keeper.run_dir, version).url


def main() -> int:
    """Write the page; fail if PostgreSQL's versions differ, since it has one table for both."""
    tables: dict[str, Table] = {}
    keeper = Keeper()
    try:
        with tempfile.TemporaryDirectory() as folder:
            for database, url in urls(folder, keeper):
                with stand(url) as here:
                    tables[database] = {
                        case.name: {cell: outcome.word for cell, outcome in here.outcomes(case).items()}
                        for case in CASES.values()
                    }
    finally:
        keeper.close()
    Path(PAGE).write_text(page(tables), encoding="utf-8")
    if tables["postgresql-16"] != tables["postgresql-18"]:
        print("the versions of PostgreSQL differ, and the page shows 18 only", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
