"""Dicts and lists that tell their object when they are changed in place.

The value of a Json or array attribute is a tree of these. A change first asks the object whether
it may change (`DatabaseSessionIsOver` once detached), then converts what comes in, then marks the
attribute as changed. Copies and pickles are plain dicts and lists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, SupportsIndex

if TYPE_CHECKING:
    from dbsession.model.attributes import ValueAttribute
    from dbsession.model.entity import EntityBase

__all__ = ["Holder", "TrackedDict", "TrackedList", "plain", "track"]

Convert = Callable[[Any], Any]


class Holder:
    """The object and attribute that a tree of tracked containers belongs to."""

    __slots__ = ("attribute", "convert", "obj")

    def __init__(self, obj: EntityBase, attribute: ValueAttribute[Any], convert: Convert) -> None:
        self.obj = obj
        self.attribute = attribute
        self.convert = convert

    def changing(self) -> None:
        """Raise unless the object may change."""
        self.attribute.require_change(self.obj)

    def take(self, value: Any) -> Any:
        """Convert a value that is put into the tree, and track it."""
        return track(self.convert(value), self)

    def changed(self) -> None:
        """Mark the attribute as changed."""
        self.attribute.changed_in_place(self.obj)


def track(value: Any, holder: Holder) -> Any:
    """Return *value* with every dict and list in it replaced by a tracked one."""
    if isinstance(value, dict):
        return TrackedDict(holder, {key: track(item, holder) for key, item in value.items()})
    if isinstance(value, list):
        return TrackedList(holder, [track(item, holder) for item in value])
    return value


def plain(value: Any) -> Any:
    """Return *value* with every tracked container in it replaced by a plain copy."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


class TrackedDict(dict[str, Any]):
    """A dict that marks its attribute as changed."""

    __slots__ = ("_holder",)

    def __init__(self, holder: Holder, items: dict[str, Any]) -> None:
        super().__init__(items)
        self._holder = holder

    def __setitem__(self, key: str, value: Any) -> None:
        self._holder.changing()
        super().__setitem__(key, self._holder.take({key: value})[key])
        self._holder.changed()

    def __delitem__(self, key: str) -> None:
        self._holder.changing()
        super().__delitem__(key)
        self._holder.changed()

    def __ior__(self, other: Any) -> TrackedDict:  # type: ignore[override,misc]
        self.update(other)
        return self

    def clear(self) -> None:
        self._holder.changing()
        super().clear()
        self._holder.changed()

    def pop(self, key: str, *default: Any) -> Any:  # type: ignore[override]
        self._holder.changing()
        value = super().pop(key, *default)
        self._holder.changed()
        return value

    def popitem(self) -> tuple[str, Any]:
        self._holder.changing()
        item = super().popitem()
        self._holder.changed()
        return item

    def setdefault(self, key: str, default: Any = None) -> Any:
        if key not in self:
            self[key] = default
        return self[key]

    def update(self, *args: Any, **kwargs: Any) -> None:
        self._holder.changing()
        super().update(self._holder.take(dict(*args, **kwargs)))
        self._holder.changed()

    def copy(self) -> dict[str, Any]:
        plain_copy: dict[str, Any] = plain(self)
        return plain_copy

    def __copy__(self) -> dict[str, Any]:
        return self.copy()

    def __deepcopy__(self, memo: Any) -> dict[str, Any]:
        return self.copy()

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        return dict, (self.copy(),)


class TrackedList(list[Any]):
    """A list that marks its attribute as changed."""

    __slots__ = ("_holder",)

    def __init__(self, holder: Holder, items: Iterable[Any]) -> None:
        super().__init__(items)
        self._holder = holder

    def _take_all(self, values: Iterable[Any]) -> list[Any]:
        taken: list[Any] = self._holder.take(list(values))
        return taken

    def __setitem__(self, index: Any, value: Any) -> None:
        self._holder.changing()
        super().__setitem__(index, self._take_all(value) if isinstance(index, slice) else self._take_all([value])[0])
        self._holder.changed()

    def __delitem__(self, index: SupportsIndex | slice) -> None:
        self._holder.changing()
        super().__delitem__(index)
        self._holder.changed()

    def __iadd__(self, values: Iterable[Any]) -> TrackedList:  # type: ignore[override,misc]
        self.extend(values)
        return self

    def __imul__(self, times: SupportsIndex) -> TrackedList:  # type: ignore[override,misc]
        self[:] = list(self) * times
        return self

    def append(self, value: Any) -> None:
        self._holder.changing()
        super().append(self._take_all([value])[0])
        self._holder.changed()

    def extend(self, values: Iterable[Any]) -> None:
        self._holder.changing()
        super().extend(self._take_all(values))
        self._holder.changed()

    def insert(self, index: SupportsIndex, value: Any) -> None:
        self._holder.changing()
        super().insert(index, self._take_all([value])[0])
        self._holder.changed()

    def remove(self, value: Any) -> None:
        self._holder.changing()
        super().remove(value)
        self._holder.changed()

    def pop(self, index: SupportsIndex = -1) -> Any:
        self._holder.changing()
        value = super().pop(index)
        self._holder.changed()
        return value

    def clear(self) -> None:
        self._holder.changing()
        super().clear()
        self._holder.changed()

    def sort(self, **options: Any) -> None:
        self._holder.changing()
        super().sort(**options)
        self._holder.changed()

    def reverse(self) -> None:
        self._holder.changing()
        super().reverse()
        self._holder.changed()

    def copy(self) -> list[Any]:
        plain_copy: list[Any] = plain(self)
        return plain_copy

    def __copy__(self) -> list[Any]:
        return self.copy()

    def __deepcopy__(self, memo: Any) -> list[Any]:
        return self.copy()

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        return list, (self.copy(),)
