"""Standard normal noise, from a seed, in two modes behind one interface."""

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from .adapters.base import Normal
from .arguments import seed_number
from .arrays import Backend, require_floating
from .typing import Array

PASSED = 2**20  # normals that are passed over at once


@dataclass(frozen=True)
class Noise:
    """Standard normals for a solve: a seed and where they are made.

    mode 'host': NumPy's Philox, keyed by (seed, step): any step can be made again, every backend
    gets the same numbers, and the first n rows are the same whatever the batch size.
    mode 'native': the generator of the backend's own library, on its device; fast, the same
    numbers only on the same library, device and batch size.

    Raises: ValueError for an unknown mode or a seed outside 0 … 2⁶⁴ - 1.
    """

    seed: int = 0
    mode: Literal["host", "native"] = "host"

    def __post_init__(self) -> None:
        if not isinstance(self.mode, str) or self.mode not in ("host", "native"):
            raise ValueError(f"noise mode {self.mode!r} is unknown; use 'host' or 'native'")
        object.__setattr__(self, "seed", seed_number(self.seed))

    def stream(self, backend: Backend) -> "NoiseStream":
        """Open the noise on a backend; a native stream starts anew at each call.

        Raises: TypeError where the backend's dtype is not a real floating one, as that of whole
        numbers is not: noise would be cut to integers.
        """
        require_floating(backend)
        native = None
        if self.mode == "native":
            # hashed first: torch's generator on the CPU reads only the last 32 bits of a seed
            hashed = np.random.SeedSequence(self.seed).generate_state(1, np.uint64)
            native = backend.adapter.normal(int(hashed[0]), backend.device)
        return NoiseStream(self.seed, backend, native)


@dataclass(frozen=True)
class NoiseStream:
    """An opened `Noise`; `native` is the library's generator, or None in host mode; first: rows that are
    passed over in each array, see `after`."""

    seed: int
    backend: Backend
    native: Normal | None
    first: int = 0

    @property
    def mode(self) -> Literal["host", "native"]:
        """That of its `Noise`."""
        return "host" if self.native is None else "native"

    def normal(self, step: int, shape: tuple[int, ...], index: int = 0) -> Array:
        """Standard normals of `shape` for `step` ≥ 0; in native mode the next ones of the generator.

        index: 0 to 2¹⁵, for steps that need several independent ones.
        """
        if self.native is not None:
            return self.native(shape, self.backend.dtype)
        # a plain list would become float64 for seeds from 2⁶³ on, and neighbours would collide
        key = np.array([self.seed, step | index << 48], dtype=np.uint64)
        generator = np.random.Generator(np.random.Philox(key=key))
        each = max(math.prod(shape[1:]), 1)
        for row in range(
            0, self.first, max(PASSED // each, 1)
        ):  # normals can be passed over by drawing alone
            generator.standard_normal(min(max(PASSED // each, 1), self.first - row) * each)
        host = generator.standard_normal(shape)
        return self.backend.xp.asarray(host, dtype=self.backend.dtype, device=self.backend.device)

    def uniform(self, step: int, count: int, index: int = 0) -> Array:
        """Numbers (count,) uniform in [0, 1) for `step` ≥ 0, independent of its normals.

        Made on the host in both modes, as they are few; the first n are the same whatever the count.
        """
        key = np.array([self.seed, step | index << 48], dtype=np.uint64)
        counter = np.array([0, 0, 0, 2], dtype=np.uint64)  # an upper word that no normals have
        host = np.random.Generator(np.random.Philox(key=key, counter=counter)).random(self.first + count)
        host = host[self.first :]
        return self.backend.xp.asarray(host, dtype=self.backend.dtype, device=self.backend.device)

    def after(self, rows: int) -> "NoiseStream":
        """The same without the first rows of each array, as for a batch of later draws: in host mode with the
        normals that they would have had together; in native mode with the next ones."""
        return replace(self, first=self.first + rows)

    def draws(
        self, step: int, s: float, t: float, kinds: tuple[str, ...], shapes: tuple[tuple[int, ...], ...]
    ) -> tuple[Array, ...]:
        """Independent standard normals for one step from s to t, of each of `shapes`, whatever the kinds."""
        if self.native is not None and len(shapes) == 1:  # nearly every step of every solver
            return (self.native(shapes[0], self.backend.dtype),)
        return tuple(self.normal(step, shape, index) for index, shape in enumerate(shapes))


def keyed_normal(
    backend: Backend, shape: tuple[int, ...], seed: int, name: tuple[int, int], index: int = 0
) -> Array:
    """Standard normals of `shape` that belong to (seed, name, index) and to nothing else, on `backend`.

    Any name may be asked for at any time, in any order. Drawn on the host by NumPy's Philox in
    float64, whatever the dtype: every backend and dtype has the same numbers, and the first n rows
    are the same whatever the batch size. name: two integers from 0 to 2⁶⁴ - 1; index: 0 to 2³².
    Independent of every `Noise`, which leaves the upper words of Philox's counter at zero.
    """
    key = np.array([seed, name[0]], dtype=np.uint64)
    counter = np.array([0, name[1], index, 1], dtype=np.uint64)
    generator = np.random.Generator(np.random.Philox(key=key, counter=counter))
    return backend.xp.asarray(generator.standard_normal(shape), dtype=backend.dtype, device=backend.device)
