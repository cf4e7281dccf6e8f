"""Forward SDEs and schedules as plain dictionaries, for saved guides."""

from dataclasses import fields, is_dataclass
from typing import Any

from .linear import LinearSDE
from .schedules import CallableSchedule, ConstantSchedule, CosineSchedule, LinearSchedule
from .ve import EDMSDE, VESDE, CallableVESDE
from .vp import VPSDE, DataAnchoredSDE, ShiftedVPSDE, SubVPSDE

_KINDS = (
    ConstantSchedule,
    CosineSchedule,
    DataAnchoredSDE,
    EDMSDE,
    LinearSDE,
    LinearSchedule,
    ShiftedVPSDE,
    SubVPSDE,
    VESDE,
    VPSDE,
)
KNOWN: dict[str, Any] = {kind.__name__: kind for kind in _KINDS}


def to_dict(value: Any) -> dict[str, Any]:
    """An SDE or a schedule as {'type': name, field: value, ...}.

    Raises: TypeError for one that is not the library's own, or that holds a function or an array,
    which cannot be read back.
    """
    name = type(value).__name__
    if isinstance(value, (CallableSchedule, CallableVESDE)):
        raise TypeError(f"cannot save {name}: it holds a function; only {sorted(KNOWN)} can be read back")
    if type(value) not in KNOWN.values():
        raise TypeError(f"cannot save {name}; only {sorted(KNOWN)} can be read back")
    content: dict[str, Any] = {"type": name}
    for field in fields(value):
        item = getattr(value, field.name)
        if isinstance(item, (int, float)):
            content[field.name] = item
        elif is_dataclass(item) or isinstance(item, CallableSchedule):
            content[field.name] = to_dict(item)
        else:
            what = "a function" if callable(item) else f"a {type(item).__name__}"
            raise TypeError(f"cannot save {name}: its {field.name} is {what}; only numbers can be read back")
    return content


def from_dict(content: dict[str, Any]) -> Any:
    """The inverse of `to_dict`. Raises: ValueError for an unknown type."""
    kind = content.get("type")
    if kind not in KNOWN:
        raise ValueError(f"unknown SDE or schedule {kind!r}; known are {sorted(KNOWN)}")
    arguments = {
        name: from_dict(item) if isinstance(item, dict) else item
        for name, item in content.items()
        if name != "type"
    }
    return KNOWN[kind](**arguments)
