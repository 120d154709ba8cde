"""Dicts, lists and bytearrays that tell their object when they are changed in place.

The value of a Json or array attribute is a tree of these. A change first asks the object whether
it may change (`DatabaseSessionIsOver` once detached), then converts what comes in, then marks the
attribute as changed. Copies and pickles are plain dicts and lists.

A tree that the program has replaced by another value is as free as a plain one. One that the
session has replaced, because the row was loaded again or rolled back, refuses changes: they would
go nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Self, SupportsIndex

from dbsession.errors import ConstraintError
from dbsession.model.state import NOT_LOADED

if TYPE_CHECKING:
    from dbsession.model.attributes import ValueAttribute
    from dbsession.model.entity import EntityBase

__all__ = ["Holder", "TrackedBytes", "TrackedDict", "TrackedList", "plain", "release", "same", "same_raw", "track"]

_Convert = Callable[[Any], Any]


class Holder:
    """The object and attribute that a tree of tracked containers belongs to."""

    __slots__ = ("attribute", "convert", "is_free", "obj")

    def __init__(self, obj: EntityBase, attribute: ValueAttribute[Any], convert: _Convert) -> None:
        self.obj = obj
        self.attribute = attribute
        self.convert = convert
        self.is_free = False  # the program has put another value in its place

    def changing(self) -> None:
        """Raise unless the object may change, and the tree is its value still."""
        if self.is_free:
            return
        unit = self.attribute.require_change(self.obj, "change the value of")
        if unit.savepoint is not None:
            unit.savepoint.keep(self.obj)
        root = self.obj.__dict__.get(self.attribute.name)
        if getattr(root, "_holder", None) is not self:
            what = f"{self.obj!r}.{self.attribute.name}"
            raise ConstraintError(
                f"{what} cannot be changed through a value that was read before the object was expired, loaded again "
                f"or rolled back: the change would be lost; read {what} again, and change that"
            )

    def take(self, value: Any) -> Any:
        """Convert a value that is put into the tree, and track it."""
        try:
            converted = self.convert(value)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{self.attribute!r} {error}") from None
        return track(converted, self)

    def changed(self) -> None:
        """Mark the attribute as changed."""
        if not self.is_free:
            self.attribute.changed_in_place(self.obj)


def release(value: Any) -> None:
    """Let the tree *value* go: the program has assigned another value."""
    holder: Holder | None = getattr(value, "_holder", None)
    if holder is not None:
        holder.is_free = True


def track(value: Any, holder: Holder) -> Any:
    """Return *value* with every dict, list and bytearray in it replaced by a tracked one."""
    if isinstance(value, dict):
        return TrackedDict(holder, {key: track(item, holder) for key, item in value.items()})
    if isinstance(value, list):
        return TrackedList(holder, [track(item, holder) for item in value])
    if isinstance(value, bytearray):
        return TrackedBytes(holder, value)
    return value


def plain(value: Any) -> Any:
    """Return *value* with every tracked dict and list in it replaced by a plain copy."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def same(left: Any, right: Any) -> bool:
    """Tell whether two values are the same to a database: 1 is not True there, and NaN is NaN."""
    if isinstance(left, dict):
        return (
            isinstance(right, dict) and left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
        )
    if isinstance(left, list):
        return isinstance(right, list) and len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, bool) is not isinstance(right, bool):
        return False
    return bool(left == right or (left != left and right != right))  # noqa: PLR0124 - only NaN differs from itself


def same_raw(attribute: Any, old: Any, new: Any) -> bool:
    """Tell whether two raw values of *attribute* that do not compare equal are one value, spelled in two ways."""
    if old is None or new is None or old is NOT_LOADED or new is NOT_LOADED:
        return False
    if not getattr(attribute, "is_tracked", False):
        return bool(old != old and new != new)  # noqa: PLR0124 - only NaN differs from itself
    decode = attribute.decode
    return same(old, new) if decode is None else same(decode(old), decode(new))


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

    def __ior__(self, other: Any) -> Self:  # type: ignore[override,misc]
        self.update(other)
        return self

    def clear(self) -> None:
        self._holder.changing()
        super().clear()
        self._holder.changed()

    def pop(self, key: str, *default: Any) -> Any:
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

    def __iadd__(self, values: Iterable[Any]) -> Self:  # type: ignore[misc]
        self.extend(values)
        return self

    def __imul__(self, times: SupportsIndex) -> Self:
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
        super().__setitem__(slice(None), sorted(self, **options))  # a comparison that fails leaves all as it was
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


class TrackedBytes(bytearray):
    """A bytearray that marks its attribute as changed. What is written through a `memoryview` goes unnoticed."""

    __slots__ = ("_holder",)

    def __init__(self, holder: Holder, content: bytearray) -> None:
        super().__init__(content)
        self._holder = holder

    def _edit(self, edit: Callable[[bytearray], Any]) -> Any:
        """Let *edit* change a copy, and take it if it fits the attribute."""
        self._holder.changing()
        changed = bytearray(self)
        answer = edit(changed)
        super().__setitem__(slice(None), self._holder.take(changed))
        self._holder.changed()
        return answer

    def __setitem__(self, index: Any, value: Any) -> None:
        self._edit(lambda content: content.__setitem__(index, value))

    def __delitem__(self, index: Any) -> None:
        self._edit(lambda content: content.__delitem__(index))

    def __iadd__(self, values: Any) -> Self:  # type: ignore[misc]
        self._edit(lambda content: content.extend(values))
        return self

    def __imul__(self, times: SupportsIndex) -> Self:
        self._edit(lambda content: content.__imul__(times))
        return self

    def append(self, value: SupportsIndex) -> None:
        self._edit(lambda content: content.append(value))

    def extend(self, values: Iterable[SupportsIndex]) -> None:
        self._edit(lambda content: content.extend(values))

    def insert(self, index: SupportsIndex, value: SupportsIndex) -> None:
        self._edit(lambda content: content.insert(index, value))

    def remove(self, value: int) -> None:
        self._edit(lambda content: content.remove(value))

    def pop(self, index: SupportsIndex = -1) -> int:
        popped: int = self._edit(lambda content: content.pop(int(index)))
        return popped

    def clear(self) -> None:
        self._edit(bytearray.clear)

    def reverse(self) -> None:
        self._edit(bytearray.reverse)

    def copy(self) -> bytearray:
        return bytearray(self)

    def __copy__(self) -> bytearray:
        return bytearray(self)

    def __deepcopy__(self, memo: Any) -> bytearray:
        return bytearray(self)

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        return bytearray, (bytes(self),)
