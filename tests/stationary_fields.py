"""Small grids of every kind, and their stationary covariances written out in full."""

import math

import numpy as np

from sdeppl.linalg import FieldShape

FIELDS = {
    "ring of 5": (1, (5,), (True,)),
    "line of 6": (1, (6,), (False,)),
    "torus of 4 x 3": (1, (4, 3), (True, True)),
    "square of 3 x 4": (1, (3, 4), (False, False)),
    "cylinder of 4 x 3": (1, (4, 3), (True, False)),
    "cylinder of 3 x 4": (1, (3, 4), (False, True)),
    "box of 2 x 3 x 4": (1, (2, 3, 4), (True, False, True)),
    "two channels on a ring of 4": (2, (4,), (True,)),
    "three channels on a cylinder of 3 x 2": (3, (3, 2), (True, False)),
    "two channels on a square of 2 x 3": (2, (2, 3), (False, False)),
}


def field_of(name):
    return FieldShape(*FIELDS[name])


def opposite(field):
    """The number of the wavenumber -k, of each k in C order."""
    numbers = np.arange(field.points).reshape(field.shape)
    for axis, periodic in enumerate(field.periodic):
        if periodic:
            numbers = np.roll(np.flip(numbers, axis), 1, axis)
    return numbers.reshape(-1)


def symmetric_spectrum(field, rng, low=0.2, high=7.0):
    """(channels, points), the same at k and -k."""
    values = rng.uniform(low, high, (field.channels, field.points))
    return 0.5 * (values + values[:, opposite(field)])


def hermitian_matrices(field, seed):
    """Eigenvalues (channels × points,) and eigenvectors (channels, channels, points) or None, as of a real
    field: conjugate at -k."""
    rng, c = np.random.default_rng(seed), field.channels
    if c == 1:
        return symmetric_spectrum(field, rng).reshape(-1), None
    pair = opposite(field)
    root = rng.standard_normal((c, c, field.points)) + 1j * rng.standard_normal((c, c, field.points))
    root = 0.5 * (root + root[..., pair].conj())
    matrices = np.einsum("ijk,ljk->kil", root, root.conj()) + 0.3 * np.eye(c)
    values, vectors = np.linalg.eigh(matrices)
    # the eigenvectors at -k are those at k, conjugate; eigh alone fixes them up to a phase
    first = np.minimum(np.arange(field.points), pair)
    vectors = np.where((first == np.arange(field.points))[:, None, None], vectors, vectors[first].conj())
    own = first == pair
    vectors[own & (pair == np.arange(field.points))] = vectors[own & (pair == np.arange(field.points))].real
    values = values[first]
    return values.T.reshape(-1), np.moveaxis(vectors, 0, -1)


def split(vectors):
    """As real numbers, (2, channels, channels, points)."""
    return np.stack([vectors.real, vectors.imag])


def transform(field):
    """The unitary transform (points, points): Fourier along periodic axes, else DCT-II."""
    full = np.ones((1, 1))
    for size, periodic in zip(field.shape, field.periodic, strict=True):
        k, i = np.arange(size)[:, None], np.arange(size)[None, :]
        if periodic:
            own = np.exp(-2j * math.pi * k * i / size) / math.sqrt(size)
        else:
            own = np.cos(math.pi * k * (2 * i + 1) / (2 * size)) * np.where(k, 2, 1) ** 0.5 / size**0.5
        full = np.kron(full, own)
    return full


def matrix_of(field, spectrum, vectors=None):
    """The covariance (..., size, size) in full."""
    c, p = field.channels, field.points
    w = spectrum.reshape(*spectrum.shape[:-1], c, p)
    if vectors is None:
        vectors = np.repeat(np.eye(c, dtype=complex)[..., None], p, axis=-1)
    own = np.einsum("aik,...ik,bik->...abk", vectors, w, vectors.conj())
    T = transform(field)
    full = np.einsum("kx,...abk,ky->...axby", T.conj(), own, T)
    assert np.max(np.abs(full.imag)) < 1e-10 * np.max(np.abs(full.real))
    return full.real.reshape(*spectrum.shape[:-1], c * p, c * p)
