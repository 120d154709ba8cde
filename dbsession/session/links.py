"""The unsaved links of many-to-many relations: pairs of objects, and whether their link is made or removed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from dbsession.model.collections import CollectionAttribute
from dbsession.model.entity import EntityBase
from dbsession.model.mapping import LinkTable
from dbsession.session.savepoint import LinkChange

if TYPE_CHECKING:
    from dbsession.session.unit_of_work import UnitOfWork

__all__ = ["Links", "change_link", "pending_link", "take_links"]

Links: TypeAlias = dict[LinkTable, dict[tuple[Any, Any], bool]]


def change_link(
    unit: UnitOfWork, attribute: CollectionAttribute, owner: EntityBase, item: EntityBase, *, add: bool, known: bool
) -> None:
    """Note a link to be made or removed; of several changes to one link the last counts.

    *known*: what the database has is certain, so that taking the change back leaves nothing to send.
    """
    link = attribute.link
    assert link is not None
    pair = (owner, item) if attribute.is_left else (item, owner)
    unit.collections_read[link] = 1
    pairs = unit.links.setdefault(link, {})
    if link.is_symmetric and (item, owner) in pairs:
        pair = (item, owner)
    if unit.savepoint is not None:
        known_before = (link, pair) in unit.known_links
        unit.savepoint.link_changing(LinkChange(link, pair, pairs.get(pair), known_before))
    if pair not in pairs:
        pairs[pair] = add
        if known:
            unit.known_links.add((link, pair))
    elif pairs[pair] is not add and (link, pair) in unit.known_links:
        unit.known_links.discard((link, pair))
        del pairs[pair]
        if not pairs:
            del unit.links[link]
    else:
        pairs[pair] = add


def pending_link(unit: UnitOfWork, attribute: CollectionAttribute, owner: EntityBase, item: EntityBase) -> bool | None:
    """Tell whether a link is to be made (True) or removed (False) by the next flush; None: neither."""
    link = attribute.link
    assert link is not None
    pairs = unit.links.get(link, {})
    pair = (owner, item) if attribute.is_left else (item, owner)
    return pairs.get(pair, pairs.get((item, owner)) if link.is_symmetric else None)


def take_links(unit: UnitOfWork) -> Links:
    """Take over the links to be made and removed, those of deleted objects left out."""
    if unit.savepoint is not None:
        unit.savepoint.links_taken(unit.links, unit.known_links)
    taken, unit.links = unit.links, {}
    unit.known_links = set()
    alive: Links = {}
    for link, pairs in taken.items():
        kept = {pair: add for pair, add in pairs.items() if all(end._state_.may_change for end in pair)}
        if kept:
            alive[link] = kept
    return alive
