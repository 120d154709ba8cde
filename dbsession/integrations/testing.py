"""Help for tests, with or without pytest: undo everything, count what is sent, let it fail.

::

    with rolled_back(db):  # nothing of this is left behind
        with assert_round_trips(db, 2), fail_commit(db):
            ...

`dbsession.integrations.pytest_plugin` has it as fixtures.
"""

from __future__ import annotations

from dbsession.integrations.faults import Fault, fail_commit, fail_statement, lose_connection
from dbsession.integrations.recording import Recording, assert_queries, assert_round_trips, recorded
from dbsession.integrations.rollback import rolled_back

__all__ = [
    "Fault",
    "Recording",
    "assert_queries",
    "assert_round_trips",
    "fail_commit",
    "fail_statement",
    "lose_connection",
    "recorded",
    "rolled_back",
]
