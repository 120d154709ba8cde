"""The flush ahead of a query: an error of it says that it was one, since the line that raises it is a query's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbsession.backends.flow import Flow
from dbsession.model.mapping import Mapping
from dbsession.session.flush import flush

if TYPE_CHECKING:
    from dbsession.session.unit_of_work import UnitOfWork

__all__ = ["flush_ahead_of"]


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
