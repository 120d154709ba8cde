"""The flush ahead of a query: an error of it says that it was one, since the line that raises it is a query's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbsession.backends.flow import Flow
from dbsession.model.mapping import Mapping
from dbsession.session.flush import flush
from dbsession.session.loading import losing

if TYPE_CHECKING:
    from dbsession.session.unit_of_work import UnitOfWork

__all__ = ["flush_ahead_of", "flush_ahead_of_rows"]


def flush_ahead_of(unit: UnitOfWork, mapping: Mapping | None) -> Flow[None]:
    """Save what is unsaved, since a query of *mapping* (None: SQL of the user's) is about to look for it."""
    try:
        yield from flush(unit)
    except Exception as error:
        what = "SQL of the user's own" if mapping is None else f"a query of {mapping.name}"
        error.add_note(
            f"raised by the flush ahead of {what}, which was not sent: unsaved changes are sent first, so that it sees "
            f"them; session.no_autoflush() lets it see what is flushed only"
        )
        raise


def flush_ahead_of_rows(unit: UnitOfWork, mapping: Mapping) -> Flow[None]:
    """Save what is unsaved if rows of *mapping*, which are about to be loaded, may go with what is to be deleted.

    Other changes need not be sent for that: what is loaded by its key, or into a collection, is merged with them.
    But which rows the database takes along with those that it deletes, it alone knows.
    """
    if not unit.deleted or not unit.autoflush or unit.is_flushing:
        return
    roots = {obj._mapping_.root for obj in unit.deleted}
    if any(mapping.root in losing(root) for root in roots):
        yield from flush_ahead_of(unit, mapping)
