"""Arrays by name in files: data and inputs in, draws in and out."""

import zipfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import UsageError
from .text_files import read_csv, read_json

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
