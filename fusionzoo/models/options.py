"""Making a model or network from options, with wrong ones told before torch stumbles over them."""

from __future__ import annotations

import numbers
import reprlib
from collections.abc import Callable, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from fusionzoo.errors import InputError

__all__ = ["make_with"]

_KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    list: "a list",
    Sequence: "a list",
    NoneType: "null",
}


def make_with(make: Callable[..., Any], options: Mapping[str, Any], name: str) -> Any:
    """Call a model's or network's constructor with options that a user may have chosen.

    Raises:
        InputError: an option is of a wrong type, or torch cannot make anything of the values.
    """
    _check_kinds(make, options, name)
    try:
        return make(**options)
    except (ValueError, MemoryError):
        raise
    except Exception as error:  # torch's own, for sizes that no network can have
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise InputError(
            f"{name!r} cannot be made with these options ({reason}); check their values"
        ) from error


def _check_kinds(make: Callable[..., Any], options: Mapping[str, Any], name: str) -> None:
    """Refuse values of another type than the constructor says: ``"no"`` would count as true.

    Raises:
        InputError: naming the option, its value and what it has to be.
    """
    hints = get_type_hints(vars(make)["__init__"] if isinstance(make, type) else make)
    for option, value in options.items():
        allowed = get_args(hints[option]) if _is_union(hints[option]) else (hints[option],)
        if not any(_is_a(value, kind) for kind in allowed):
            kinds = " or ".join(_KINDS.get(get_origin(kind) or kind, str(kind)) for kind in allowed)
            shown = reprlib.repr(value)
            raise InputError(f"option {option!r} of {name!r} has to be {kinds}, not {shown}")


def _is_union(hint: Any) -> bool:
    return get_origin(hint) in (Union, UnionType)


def _is_a(value: Any, kind: Any) -> bool:
    """Whether a value is of a kind of annotation that model options have."""
    origin = get_origin(kind) or kind
    if origin in (list, Sequence):
        (inner,) = get_args(kind)
        return isinstance(value, list | tuple) and all(_is_a(one, inner) for one in value)
    if isinstance(value, bool):
        return origin is bool
    if origin is float:
        return isinstance(value, numbers.Real)
    if origin is int:
        return isinstance(value, numbers.Integral)
    return not isinstance(origin, type) or isinstance(value, origin)
