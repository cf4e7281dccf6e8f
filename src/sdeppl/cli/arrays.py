"""Arrays by name in files: data and inputs in, draws in and out."""

import csv
import json
import math
import re
import zipfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import UsageError

if TYPE_CHECKING:
    import numpy as np


def read_arrays(path: str, option: str, only: str | None = None) -> "dict[str, np.ndarray]":
    """{name: array} of an .npz, .csv, .tsv or .json file; of an .npy file where there is one name, `only`.

    Raises: UsageError, naming file and option.
    """
    import numpy as np

    _require_file(path, option)
    ending = Path(path).suffix.lower()
    if ending in (".csv", ".tsv"):
        return read_csv(path, option)
    if ending == ".json":
        return read_json(path, option)
    try:
        found = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(
            f"{option} {path} holds no arrays ({error}); write it by numpy.savez, or as .csv or .json"
        ) from error
    if isinstance(found, np.ndarray):
        if only is None:
            raise UsageError(
                f"{option} {path} is one array without a name; write it by numpy.savez(name=...)"
            )
        return {only: found}
    try:
        with found:
            return {name: found[name] for name in found.files}
    except ValueError as error:  # arrays of objects are pickles
        raise UsageError(f"{option} {path} holds an array that is not of numbers ({error})") from error


def in_words(arrays: "Mapping[str, np.ndarray]") -> str:
    """What was read: names and shapes, and how many numbers are missing."""
    import numpy as np

    found = []
    for name, value in arrays.items():
        missing = int(np.isnan(value).sum()) if value.dtype.kind == "f" else 0
        found.append(f"{name} {tuple(value.shape)}" + (f", {missing} not observed" if missing else ""))
    return "; ".join(found)


def check_output(path: str) -> None:
    """Refuse a file that draws could not be written to, before they are made. Raises: UsageError."""
    folder, suffix = Path(path).parent, Path(path).suffix
    if not folder.is_dir():
        raise UsageError(f"--out {path}: there is no folder {folder}; make it first")
    if suffix not in (".npz", ".nc"):
        raise UsageError(f"--out {path}: draws are written as .npz (NumPy) or .nc (ArviZ's NetCDF)")
    if suffix == ".nc":
        _require_arviz(path)


def check_names(path: str, opened: Any) -> None:
    """Refuse, before draws are made, names that NetCDF has not. Raises: UsageError, naming the site."""
    sites = getattr(opened.posterior, "space", opened.posterior).sites
    names = [*(site.name for site in sites), *(opened.data or {})]
    bad = [name for name in names if "/" in name]
    if bad and Path(path).suffix == ".nc":
        raise UsageError(f"--out {path}: NetCDF has no names with '/', as site '{bad[0]}' has; use .npz")


def write_draws(path: str, run: Any, observed: Mapping[str, Any] | None) -> None:
    """What `posterior.run` returned, with its diagnosis and the data where the format keeps them."""
    import numpy as np

    from ..backend import to_host
    from ..backend.files import replacing

    with replacing(path) as part:
        if Path(path).suffix == ".npz":
            # numpy.savez takes arrays by keyword, where a site called `file` would meet its own argument
            with zipfile.ZipFile(part, "w", allowZip64=True) as archive:
                for name, value in run.draws.items():
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                        np.lib.format.write_array(entry, to_host(value), allow_pickle=False)
        else:
            from ..diagnostics import to_arviz

            to_arviz(run, observed=observed).to_netcdf(str(part))


def read_draws(path: str) -> "tuple[dict[str, np.ndarray], int]":
    """Draws {site: (chains × draws, *shape)} chain after chain, and how many chains. Raises: UsageError."""
    if Path(path).suffix != ".nc":
        return read_arrays(path, "draws"), 1
    _require_file(path, "draws")
    _require_arviz(path)
    import arviz
    import numpy as np

    try:
        group = arviz.from_netcdf(path)["posterior"]
    except (OSError, KeyError, ValueError) as error:
        raise UsageError(f"draws {path}: no group 'posterior' can be read from it ({error})") from error
    chains = int(group.sizes["chain"])
    found = {str(name): np.asarray(group[name].values) for name in group.data_vars}
    return {name: value.reshape(-1, *value.shape[2:]) for name, value in found.items()}, chains


def _require_file(path: str, option: str) -> None:
    if not Path(path).is_file():
        raise UsageError(f"{option}: there is no file {path}")


def _require_arviz(path: str) -> None:
    """ArviZ 1 comes without a library for NetCDF, and would say so only when all is drawn."""
    found = {name for name in ("arviz", "netCDF4", "h5netcdf", "h5py") if find_spec(name) is not None}
    if "arviz" not in found or not ("netCDF4" in found or found >= {"h5netcdf", "h5py"}):
        raise UsageError(
            f"{path}: .nc needs ArviZ, and h5netcdf with h5py for the file: pip install 'sdeppl[arviz]', or "
            "use .npz"
        )


# ---- Arrays by name in text: CSV, whose first line names them, and JSON

MISSING = ("", "NA", "NaN", "nan", "null", "None", "<NA>", ".")
ENTRY = re.compile(r"(.*)\[(\d+(?:,\s*\d+)*)\]")  # y[0] or y[2,1]


def read_csv(path: str, option: str) -> "dict[str, np.ndarray]":
    """{name: (rows, *shape)}: a column for each name, or for each of its numbers, y[0], y[1], …

    Of one row, (*shape). Separated by commas, semicolons or tabs, with a point in decimal numbers; an empty
    cell, NA and NaN were not observed. Raises: UsageError, naming file, line and column.
    """
    import numpy as np

    where = f"{option} {path}"
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            text = file.read()
    except UnicodeDecodeError as error:
        raise UsageError(f"{where} is not text in UTF-8 ({error})") from error
    first = text.partition("\n")[0]
    separator = max(",;\t", key=first.count)
    lines = [(n, row) for n, row in enumerate(csv.reader(text.splitlines(), delimiter=separator), 1) if row]
    names = _header(lines, where)
    for number, row in lines[1:]:
        if len(row) != len(names):
            raise UsageError(
                f"{where}, line {number}: {len(row)} cells, and {len(names)} names in the first line"
            )
    columns = {
        name: np.array([_cell(row[k], name, number, where) for number, row in lines[1:]])
        for k, name in enumerate(names)
    }
    found = _joined(columns, where)
    return {name: value[0] for name, value in found.items()} if len(lines) == 2 else found


def read_json(path: str, option: str) -> "dict[str, np.ndarray]":
    """{name: array} of an object of numbers and nested lists; null was not observed. Raises: UsageError."""
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{option} {path} is not JSON ({error})") from error
    if not isinstance(found, dict) or not found:
        raise UsageError(f'{option} {path} must hold an object of arrays by name, {{"y": [1.5, null, 2]}}')
    from ..backend import host_numbers  # with NumPy, which --help does without

    try:
        return {name: host_numbers(_seen(value), f"'{name}'") for name, value in found.items()}
    except TypeError as error:
        raise UsageError(f"{option} {path}: {error}") from error


def _header(lines: list[Any], where: str) -> list[str]:
    names = [name.strip() for name in lines[0][1]] if lines else []
    if len(lines) < 2:
        raise UsageError(f"{where}: a first line of names and at least one line of numbers are needed")
    for name in names:
        if not name or _is_number(name):
            raise UsageError(f"{where}: the first line must name each column by its site; got {name!r}")
        if names.count(name) > 1:
            raise UsageError(f"{where}: two columns are called '{name}'")
    return names


def _cell(text: str, name: str, line: int, where: str) -> float:
    text = text.strip()
    if text in MISSING:
        return math.nan
    if not _is_number(text):
        raise UsageError(
            f"{where}, line {line}, column '{name}': {text!r} is not a number; leave out what is no data"
        )
    return float(text)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text  # which Python takes


def _joined(columns: "dict[str, np.ndarray]", where: str) -> "dict[str, np.ndarray]":
    """Columns y[0], y[1], … as one array y. Raises: UsageError where some are missing."""
    import numpy as np

    found: dict[str, Any] = {}
    for label, column in columns.items():
        entry = ENTRY.fullmatch(label)
        if entry is None:
            found.setdefault(label, {})[()] = column
        else:
            index = tuple(int(part) for part in entry[2].split(","))
            found.setdefault(entry[1].strip(), {})[index] = column
    arrays = {}
    for name, parts in found.items():
        ranks = {len(index) for index in parts}
        shape = tuple(max(index) + 1 for index in zip(*parts, strict=False))
        if len(ranks) > 1 or math.prod(shape) != len(parts):
            raise UsageError(f"{where}: the columns of '{name}' are not those of one array: {list(parts)}")
        stacked = np.stack([parts[index] for index in np.ndindex(shape)], axis=-1)
        arrays[name] = stacked.reshape(len(stacked), *shape)
    return arrays


def _seen(value: object) -> Any:
    """With NaN for null."""
    if isinstance(value, list):
        return [_seen(item) for item in value]
    return math.nan if value is None else value
