"""Generators with CuPy's names."""

from typing import Any

import numpy as np

from . import ndarray


def XORWOW(seed: int) -> np.random.BitGenerator:
    """Stands in for the generator of that name."""
    return np.random.SFC64(seed)


class Generator:
    """Standard normals."""

    def __init__(self, bits: np.random.BitGenerator) -> None:
        self._generator = np.random.Generator(bits)

    def standard_normal(self, shape: Any, dtype: Any) -> ndarray:
        return ndarray(self._generator.standard_normal(shape, dtype=dtype))
