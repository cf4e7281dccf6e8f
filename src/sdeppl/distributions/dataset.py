"""A data set as a distribution: random rows of an array that is never copied whole."""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from ..backend import real_parameter, whole_number
from .draws_alone import Asking, DrawsAlone, SamplerError, Values, as_rows, check_finite, derived

BLOCK = 2**22  # numbers that are looked at together when all rows are checked
Part = Literal["all", "training", "held out"]


class Dataset(DrawsAlone):
    """Random rows of `source`, each as likely as the others: a prior that is nothing but data.

        field = pyro.sample("field", sp.Dataset(np.load("fields.npy", mmap_mode="r")))

    source: (rows, *shape): an array of NumPy or torch, np.memmap, zarr or h5py, an xarray DataArray whose
    first dimension is that of the rows and whose others, with their coordinates, are kept for
    `run.to_xarray()`. Read in mini-batches of the rows that are drawn, in rising order. transform: a function
    of rows (n, *shape), of the source's library, to (n, *event shape); like a sampler of `Simulated` it is
    given rng, generator or seed where it has such a parameter (noise, flips). shape: of one draw, where
    reading one row to see what the transform makes of it is not wanted.

    held_out: what the fit of a guide does not see and is checked on. A share: every so-many-th row, the 10th,
    20th, ... for .1; a source of rows of the same shape; or 0 for none, and then checks read what the fit
    has read. Whoever else samples the site draws from all rows of `source`.

    check: whether a guide reads all rows once when it is made, to find NaN before work is lost; a row with
    NaN is refused whenever it is drawn. dtype: of the tensors; by default the source's where it is floating.
    dims, coords: as of `Simulated`. Time and memory for n draws: those of reading n rows.

    Raises: TypeError for a source that is no array of real numbers; ValueError for one without rows, of
    another shape than its held-out rows, or for held_out, shape, dims or coords; SamplerError, which a guide
    reports with the site's name, for rows with NaN, a file that is gone or too short, a transform that
    fails; NotImplementedError for log_prob.
    """

    def __init__(
        self,
        source: Any,
        transform: Any = None,
        *,
        held_out: Any = 0.1,
        shape: int | Sequence[int] | None = None,
        dtype: torch.dtype | None = None,
        check: bool = True,
        dims: str | Sequence[str] | None = None,
        coords: Mapping[str, Any] | None = None,
    ) -> None:
        self.given: Values = {}
        self.source = Source.of(source, "source")
        self.others, self.stride = self._held_out(held_out)
        self.transform = None if transform is None else Asking("transform", transform, (), taken=1)
        self.dtype, self.check_all, self.part = dtype, check, "all"
        self.order: torch.Tensor | None = None
        if shape is not None:
            sizes = [whole_number("shape", n, 1) for n in ((shape,) if isinstance(shape, int) else shape)]
        elif self.transform is not None:
            sizes = list(self._read(self.source, np.zeros(1, dtype=np.int64), [0]).shape[1:])
        else:
            sizes = list(self.source.shape)
        if dims is None and coords is None and tuple(sizes) == self.source.shape:
            dims, coords = self.source.dims, self.source.coords
        super().__init__(sizes, dims, coords)

    def _held_out(self, held_out: Any) -> tuple["Source | None", int]:
        """The source of held-out rows, or every how-many-th row is one; 0 for none."""
        if hasattr(held_out, "shape") and getattr(held_out, "shape", ()) != ():
            others = Source.of(held_out, "held_out")
            if others.shape != self.source.shape:
                raise ValueError(
                    f"Dataset: held_out has rows of shape {others.shape}; those of the source have "
                    f"{self.source.shape}"
                )
            return others, 0
        share = real_parameter("held_out", held_out)
        if not 0 <= share <= 0.5:
            raise ValueError(f"Dataset: held_out is a share from 0 to .5, or another source; got {share}")
        return None, round(1 / share) if share else 0

    def __repr__(self) -> str:
        kept = "" if self.part == "all" else f", {self.part}"
        return f"Dataset({len(self)} rows of {tuple(self.event_shape)}{kept})"

    def __len__(self) -> int:
        """Rows that are drawn from."""
        count = self.source.count
        if self.others is not None:
            return self.others.count if self.part == "held out" else count
        held = count // self.stride if self.stride else 0
        if not held or self.part == "all":
            return count
        return held if self.part == "held out" else count - held

    def reading(self, part: Part, order: torch.Tensor | None = None) -> "Dataset":
        """The same, drawing from a part of its rows. order: () whole number; instead of random rows it then
        gives row `order` of the part, counted round and round, and the rows after it where it has a batch."""
        new: Dataset = self.expand(self.batch_shape)
        new.part, new.order = part, order
        return new

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError(
            f"{self!r} has no density: it can only be drawn from, which is all that ScoreGuide needs; HMC, "
            "NUTS and an ELBO need one"
        )

    def check(self) -> None:
        """Read all rows once, a block at a time. Raises: SamplerError for a row that is no draw."""
        for source in (self.source, *(() if self.others is None else (self.others,))):
            for rows in source.blocks():
                self._read(source, rows, [0])

    def _keys(self, shape: torch.Size) -> torch.Tensor:
        if self.order is None:
            return super()._keys(shape)
        places = torch.arange(shape.numel(), dtype=torch.int64).reshape(shape)
        return self.order * shape.numel() + places

    def _rows(self, keys: torch.Tensor, given: Values) -> torch.Tensor:
        rows = keys.cpu().numpy() % len(self)  # of 2**62, so that no row is favoured by more than 2**-30
        held = self.part == "held out"
        source = self.others if held and self.others is not None else self.source
        if self.part != "all" and self.others is None and len(self) < source.count:
            rows = rows * self.stride + self.stride - 1 if held else rows + rows // (self.stride - 1)
        return self._read(source, rows, keys.tolist())

    def _read(self, source: "Source", rows: Any, keys: Sequence[int]) -> torch.Tensor:
        """The rows of these numbers, transformed."""
        found = source.read(rows)
        if self.transform is not None:
            found = self.transform(derived(keys[0], len(rows)), len(rows), found)
        tensor = as_rows("Dataset", found, self.dtype)
        wanted = (len(rows), *getattr(self, "_event_shape", tensor.shape[1:]))
        if tuple(tensor.shape) != wanted:
            raise SamplerError(
                f"Dataset: the transform made shape {tuple(tensor.shape)} of {len(rows)} rows of "
                f"{source.shape}; expected {wanted}"
            )
        check_finite("Dataset", tensor, _RowNames(source.name, rows))
        return tensor


class _RowNames(Sequence[str]):
    """What rows are called in messages."""

    def __init__(self, source: str, rows: Any) -> None:
        self.source, self.rows = source, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, k: Any) -> Any:
        return f"row {self.rows[k]} of {self.source}"


@dataclass(frozen=True)
class Source:
    """An array of rows that stay where they are. name: of the argument; dims, coords: of an xarray DataArray,
    whose axis of rows is called `rows`; file: that it is mapped from."""

    array: Any
    name: str
    count: int
    shape: tuple[int, ...]
    dims: tuple[str, ...] | None = None
    coords: Mapping[str, Any] | None = None
    rows: str = ""
    file: np.memmap | None = None

    @classmethod
    def of(cls, array: Any, name: str) -> "Source":
        """Raises: TypeError, ValueError, as `Dataset`."""
        if hasattr(array, "data_vars"):
            raise TypeError(
                f"Dataset: {name} must be one variable, an xarray.DataArray; got an xarray.Dataset with "
                f"{list(array.data_vars)}; choose one of them"
            )
        if not hasattr(array, "shape") or (hasattr(array, "to_numpy") and not hasattr(array, "isel")):
            try:
                array = np.asarray(array)
            except ValueError as error:
                raise TypeError(f"Dataset: {name} must be an array; {error}") from error
        kind = getattr(getattr(array, "dtype", None), "kind", "f")
        is_complex = isinstance(array, torch.Tensor) and array.is_complex()
        if kind not in "biuf" or is_complex:
            raise TypeError(f"Dataset: {name} must hold real numbers; got {array.dtype}")
        if not len(array.shape) or not array.shape[0] or not math.prod(array.shape):
            raise ValueError(
                f"Dataset: {name} must be (rows, *shape) with at least one row and one number; got shape "
                f"{tuple(array.shape)}"
            )
        sizes = tuple(int(n) for n in array.shape)
        return cls(array, name, sizes[0], sizes[1:], *_axes(array), file=_file(array))

    def __getstate__(self) -> dict[str, Any]:
        """A whole file that is mapped goes to another process by its path, and not its numbers."""
        mapped = self.array
        if mapped is not self.file or not isinstance(mapped, np.memmap):
            return vars(self) | {"file": None}  # a view of one is sent with its numbers
        order = "F" if mapped.flags.f_contiguous and not mapped.flags.c_contiguous else "C"
        place = os.path.abspath(str(mapped.filename)), mapped.dtype, mapped.offset, mapped.shape, order
        return vars(self) | {"array": None, "file": None, "mapped": place}

    def __setstate__(self, state: dict[str, Any]) -> None:
        place = state.pop("mapped", None)
        if place is not None:
            path, dtype, offset, shape, order = place
            try:
                array = np.memmap(path, dtype, "r", offset, shape, order)
            except (OSError, ValueError) as error:
                raise SamplerError(
                    f"Dataset: {os.path.basename(path)}, which {state['name']} is mapped from, is gone or "
                    f"too short here ({error}); it must be where the one who sends it has it"
                ) from error
            state |= {"array": array, "file": array}
        self.__dict__.update(state)

    def check_file(self) -> None:
        """Check that the file that it is mapped from is whole. Raises: SamplerError."""
        if self.file is None:
            return
        path, needed = str(self.file.filename), self.file.offset + self.file.nbytes
        mapped: Any = self.file.base  # another file than that of the path, where this was written anew
        try:
            size = min(os.path.getsize(path), mapped.size())
        except OSError as error:
            raise SamplerError(
                f"Dataset: {os.path.basename(path)}, which {self.name} is mapped from, is gone "
                f"({error.strerror}); put it back, or load the array into memory"
            ) from error
        if size < needed:
            raise SamplerError(
                f"Dataset: {os.path.basename(path)}, which {self.name} is mapped from, has {size} bytes; "
                f"expected {needed}: it was shortened since; map it again"
            )

    def read(self, rows: Any) -> Any:
        """(n, *shape), of row numbers (n,) in any order. Raises: SamplerError."""
        self.check_file()
        if isinstance(self.array, torch.Tensor):
            return self.array[torch.as_tensor(rows, device=self.array.device)]
        wanted, places = np.unique(rows, return_inverse=True)
        try:
            if self.rows:
                found = self.array.isel({self.rows: wanted}).values
            else:
                found = np.asarray(getattr(self.array, "oindex", self.array)[wanted])
        except Exception as error:
            raise SamplerError(
                f"Dataset: {self.name} cannot be read: {type(error).__name__}: {error}"
            ) from error
        return found[places.reshape(-1)]

    def blocks(self) -> Iterator[Any]:
        """Row numbers, some at a time, all once."""
        step = max(1, BLOCK // math.prod(self.shape))
        for first in range(0, self.count, step):
            yield np.arange(first, min(first + step, self.count))


def _axes(array: Any) -> tuple[tuple[str, ...] | None, dict[str, Any] | None, str]:
    """Names of a DataArray's axes but the first, coordinates along them as (dims, values), and the first."""
    if not hasattr(array, "isel"):
        return None, None, ""
    rows, *dims = (str(dim) for dim in array.dims)
    coords = {
        str(name): (tuple(str(dim) for dim in held.dims), held.values)
        for name, held in array.coords.items()
        if set(held.dims) <= set(array.dims[1:])
    }
    return tuple(dims), coords, rows


def _file(array: Any) -> "np.memmap | None":
    """The whole of what an array, or what it is a view of, is mapped from a file."""
    held, found = (array.variable._data if hasattr(array, "variable") else array), None
    while isinstance(held, np.ndarray):
        if isinstance(held, np.memmap) and held.filename is not None:
            found = held
        held = held.base
    return found
