"""Observations and reference draws of the package sbibm, from its wheel, which is read as a zip.

Its dependencies do not install beside a current torch, and none of its code runs here.
"""

import bz2
import io
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

REQUIREMENT = "sbibm==1.1.0"
CACHE = Path(tempfile.gettempdir()) / "sdeppl-benchmarks"


@dataclass(frozen=True)
class Case:
    """One observation of a task: y (count,), the true parameters (dim,), reference draws (10,000, dim)."""

    y: np.ndarray
    truth: np.ndarray
    reference: np.ndarray


def find_wheel(given: str | None = None, cache: Path = CACHE) -> Path:
    """The wheel's path: the one given, else one in the cache folder, else pip downloads it to there.

    Raises: FileNotFoundError for a path where there is no file; CalledProcessError where pip fails.
    """
    if given is not None:
        if not Path(given).is_file():
            raise FileNotFoundError(f"--wheel {given}: there is no such file; expected sbibm's wheel, 1.1.0")
        return Path(given)
    found = sorted(cache.glob("sbibm-1.1.0-*.whl"))
    if not found:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(cache)]
        subprocess.run([*command, REQUIREMENT], check=True)
        found = sorted(cache.glob("sbibm-1.1.0-*.whl"))
    return found[0]


def read_case(wheel: Path, task: str, observation: int) -> Case:
    """One of the observations 1 to 10; of bernoulli_glm the 100 single outcomes, not their summary.

    The summary is Xᵀy of the outcomes y, with the design matrix X, and sufficient: the posterior, and
    so the reference draws, are the same.
    """
    folder = f"sbibm/tasks/{task}/files/num_observation_{observation}"
    name = "observation_raw" if task == "bernoulli_glm" else "observation"
    with zipfile.ZipFile(wheel) as archive:
        y = _table(archive.read(f"{folder}/{name}.csv"))[0]
        truth = _table(archive.read(f"{folder}/true_parameters.csv"))[0]
        packed = archive.read(f"{folder}/reference_posterior_samples.csv.bz2")
    return Case(y, truth, _table(bz2.decompress(packed)))


def read_summary(wheel: Path, observation: int) -> np.ndarray:
    """The summary of an observation of bernoulli_glm, (10,)."""
    folder = f"sbibm/tasks/bernoulli_glm/files/num_observation_{observation}"
    with zipfile.ZipFile(wheel) as archive:
        return _table(archive.read(f"{folder}/observation.csv"))[0]


def read_design_matrix(wheel: Path) -> np.ndarray:
    """The design matrix of bernoulli_glm as its authors stored it, (100, 10)."""
    with zipfile.ZipFile(wheel) as archive:
        stored = io.BytesIO(archive.read("sbibm/tasks/bernoulli_glm/files/design_matrix.pt"))
    matrix: Any = torch.load(stored, weights_only=True)
    return matrix.numpy().astype(float)


def _table(content: bytes) -> np.ndarray:
    """The numbers of a CSV file with one line of names, (rows, columns)."""
    return np.loadtxt(io.BytesIO(content), delimiter=",", skiprows=1, ndmin=2)
