"""What a generator expression goes through: the entity, query or collection behind its first ``for``."""

from __future__ import annotations

from types import GeneratorType
from typing import Any

from dbsession.model.collections import Collection
from dbsession.model.entity import EntityMeta
from dbsession.model.iterators import origin_of
from dbsession.query.query import Query

__all__ = ["range_of"]


def range_of(generator: object) -> EntityMeta | Query[Any] | Collection[Any] | None:
    """Return what the first ``for`` of the generator expression *generator* goes through, without running anything.

    None: it is no generator expression; it is under way, or what it goes through is; or that is none of ours.
    """
    if not isinstance(generator, GeneratorType) or generator.gi_suspended or generator.gi_running:
        return None
    frame = generator.gi_frame  # None: it has ended
    iterator = None if frame is None else frame.f_locals.get(".0")
    found = origin_of(iterator)
    return found if isinstance(found, EntityMeta | Query | Collection) else None
