"""Forward SDEs and schedules as plain dictionaries, for saved guides."""

from dataclasses import fields, is_dataclass
from typing import Any

from .linear import LinearSDE
from .schedules import ConstantSchedule, LinearSchedule
from .ve import VESDE
from .vp import VPSDE

KNOWN: dict[str, Any] = {
    kind.__name__: kind for kind in (LinearSDE, VPSDE, VESDE, ConstantSchedule, LinearSchedule)
}


def to_dict(value: Any) -> dict[str, Any]:
    """An SDE or a schedule as {'type': name, field: value, ...}.

    Raises: TypeError for one that is not the library's own, which cannot be read back.
    """
    if type(value) not in KNOWN.values():
        raise TypeError(f"cannot save {type(value).__name__}; only {sorted(KNOWN)} can be read back")
    content: dict[str, Any] = {"type": type(value).__name__}
    for field in fields(value):
        item = getattr(value, field.name)
        content[field.name] = to_dict(item) if is_dataclass(item) else item
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
