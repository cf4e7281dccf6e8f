"""What tests share: the files in backends/, making arrays, and comparing them in every respect."""

import itertools
import tomllib
from pathlib import Path
from typing import Any

import numpy as np

import sdeppl as sp
from sdeppl.backend import Backend, backend_of, place, to_host

ROOT = Path(__file__).resolve().parents[1]
FILES = {path.stem: tomllib.loads(path.read_text("utf-8")) for path in sorted(ROOT.glob("backends/*.toml"))}
MATRIX = [
    (device["selector"], dtype)
    for content in FILES.values()
    for device in content["devices"]
    for dtype in device["matrix"]
]


def dtype_name(backend: Backend) -> str:
    """'float64' or 'float32'."""
    return backend.dtype_name


def tolerance_of(backend: Backend) -> float:
    """The relative tolerance that the backend's file states for its dtype."""
    tolerance: float = FILES[backend.name]["tolerances"][dtype_name(backend)]
    return tolerance


def array(numbers: Any, backend: Backend) -> Any:
    """Numbers on a backend, in its dtype; NumPy's are read-only in float64, as a user's may be."""
    placed = place(np.array(numbers, dtype=np.float64), backend)
    if backend.name == "numpy" and dtype_name(backend) == "float64":
        placed.flags.writeable = False
    return placed


def torch_device(backend: Backend) -> Any:
    """Where a torch module must be for arrays of this backend."""
    if backend.name != "cupy":
        return backend.device if backend.name == "torch" else "cpu"
    import cupy

    if cupy.__version__.endswith("simulated"):
        raise NotImplementedError(cupy.NO_MEMORY)
    return "cuda"


def host(values: Any) -> np.ndarray:
    """An array of any backend as a float64 NumPy array."""
    return np.asarray(to_host(values), dtype=np.float64)


def assert_array(actual: Any, expected: Any, backend: Backend, tolerance: float | None = None) -> None:
    """Namespace, device, dtype, shape and values, the last relative to the largest entry expected."""
    found = backend_of(actual)
    assert (found.name, found.device, found.dtype) == (backend.name, backend.device, backend.dtype)
    expected = np.asarray(expected, dtype=np.float64)
    assert tuple(actual.shape) == expected.shape
    error = np.abs(host(actual) - expected)
    limit = (tolerance_of(backend) if tolerance is None else tolerance) * np.max(
        np.abs(expected), initial=0.0
    )
    assert np.all(error <= max(limit, 1e-300)), f"error {np.max(error):.3g} > {limit:.3g}"


def covariance_matrix(dim: int, seed: int, smallest: float = 0.3, largest: float = 2.0) -> np.ndarray:
    """A correlated covariance with eigenvalues from `smallest` to `largest` in a random basis."""
    basis, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((dim, dim)))
    return (basis * np.geomspace(smallest, largest, dim)) @ basis.T


def fitted_slope(sizes: Any, errors: Any) -> float:
    """The exponent p of errors ∝ sizes^p, by least squares on logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(errors), 1)[0])


def step_maps(sde: Any, solver: Any, s: float, t: float, dim: int, backend: Backend) -> Any:
    """d, A and B of one step x ↦ d + A x + B z, read off by stepping from zero and from the basis
    vectors of x and of z; z None, and B empty, where no noise enters."""
    quiet = sde.deterministic(s, t) and "extra" not in solver.draws
    width = 0 if quiet else solver.draw_shapes(sde, (1, dim))[0][-1]
    points = np.concatenate([np.zeros((1, dim + width)), np.eye(dim + width)])
    x, z = array(points[:, :dim], backend), None if quiet else array(points[:, dim:], backend)
    stepped = host(solver.step(sde, x, s, t, z)[0])
    constant, maps = stepped[0], stepped[1:] - stepped[0]
    return constant, maps[:dim].T, maps[dim:].T


def propagate(sde: Any, solver: Any, times: Any, mean: Any, covariance: Any, backend: Backend) -> Any:
    """Mean and covariance after all steps of a scheme that is affine in x and z, without Monte Carlo."""
    for s, t in itertools.pairwise(times):
        constant, A, B = step_maps(sde, solver, s, t, len(mean), backend)
        mean = constant + A @ mean
        covariance = A @ covariance @ A.T + B @ B.T
    return mean, covariance


def boxed(prior: sp.Denoiser) -> sp.CallableDenoiser:
    """The same denoiser, known by its mean and covariance alone."""
    return sp.CallableDenoiser(
        prior.sde, prior.mean, lambda x, t: prior(x, t).covariance, prior.dim, prior.backend
    )
