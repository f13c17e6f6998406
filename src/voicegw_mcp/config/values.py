"""The meaning of an edit on plain data, and when two values are the same one. Pure; imports nothing of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

_MAPS = (dict, Mapping)  # the ABC alone is asked ten times slower, and most mappings are dicts
_LISTS = (list, tuple)


def is_map(value: object) -> TypeGuard[Mapping[str, Any]]:
    """Whether a value is written as a mapping."""
    return isinstance(value, _MAPS)


def is_list(value: object) -> TypeGuard[Sequence[Any]]:
    """Whether a value is written as a list."""
    return isinstance(value, _LISTS)


def _is_dict(value: object) -> TypeGuard[dict[Any, Any]]:
    return isinstance(value, dict)


def same(left: object, right: object) -> bool:
    """Whether two values are written alike: 1, 1.0 and True differ, the order of keys does not count, NaN is NaN."""
    if left is right:
        return True
    if _is_dict(left) and _is_dict(right):
        return left.keys() == right.keys() and _same_values(left, right)
    if is_list(left) and is_list(right):
        return len(left) == len(right) and all(map(same, left, right))
    if type(left) is not type(right):
        return False
    return left == right or (left != left and right != right)  # noqa: PLR0124 - NaN


def _same_values(left: dict[Any, Any], right: dict[Any, Any]) -> bool:
    for key, value in left.items():
        other = right[key]
        # Equal strings are settled here: most of a file is strings, and a call for each is most of the time.
        if not ((value.__class__ is str is other.__class__ and value == other) or same(value, other)):
            return False
    return True


def copied(value: Any) -> Any:
    """Return the value with every container made anew, also those that aliases share; tuples become lists."""
    if is_map(value):
        return {key: copied(item) for key, item in value.items()}
    if is_list(value):
        return [copied(item) for item in value]
    return value


def nested(path: Sequence[str], value: object) -> Any:
    """Return ``value`` wrapped in one mapping for each step."""
    for step in reversed(path):
        value = {step: value}
    return value


def at(data: Any, path: Sequence[str]) -> Any:
    """Return what stands at ``path``. Raises KeyError or TypeError when it is not there."""
    for step in path:
        data = data[step]
    return data


def with_value(data: Any, path: Sequence[str], value: object) -> Any:
    """Return a copy of ``data`` with ``value`` at ``path``; absent or null mappings on the way are made.

    Raises TypeError when something on the way is no mapping.
    """
    if not path:
        return copied(value)
    if data is None:
        data = {}
    if not is_map(data):
        raise TypeError(path[0])
    out = dict(data)
    out[path[0]] = with_value(out.get(path[0]), path[1:], value)
    return out


def without(data: Any, path: Sequence[str]) -> Any:
    """Return a copy of ``data`` without ``path``. Raises KeyError when it is absent."""
    if not is_map(data) or path[0] not in data:
        raise KeyError(path[0])
    out = dict(data)
    if len(path) == 1:
        del out[path[0]]
    else:
        out[path[0]] = without(out[path[0]], path[1:])
    return out
