"""Keyword arguments of the model, from a file."""

from typing import Any


def read_inputs(path: str | None) -> dict[str, Any]:
    """{keyword: tensor in float64 or the integers' own dtype}; nothing for no file. Raises: UsageError."""
    if path is None:
        return {}
    import torch

    from .arrays import read_arrays

    found = {name: torch.as_tensor(value) for name, value in read_arrays(path, "--inputs").items()}
    return {name: v.double() if v.is_floating_point() else v for name, v in found.items()}
