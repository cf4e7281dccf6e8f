"""Stationary covariances against matrices written out by complex exponentials and cosines."""

import numpy as np
import pytest
from checks import array, assert_array, host, tolerance_of
from stationary_fields import FIELDS, field_of, hermitian_matrices, matrix_of, split, symmetric_spectrum

from sdeppl import linalg as la

every = pytest.mark.parametrize("name", FIELDS)


def operator_of(field, backend, seed=3, batch=None):
    spectrum, vectors = hermitian_matrices(field, seed)
    if batch:
        spectrum = spectrum * np.random.default_rng(seed).uniform(0.5, 3.0, (batch, 1))
    held = None if vectors is None else array(split(vectors), backend)
    return la.Stationary(field, array(spectrum, backend), held), matrix_of(field, spectrum, vectors)


@every
def test_the_basis_is_real_and_orthogonal_and_makes_it_diagonal(name, backend):
    field = field_of(name)
    operator, matrix = operator_of(field, backend)
    basis = host(operator.basis)
    limit = 20 * tolerance_of(backend)
    np.testing.assert_allclose(basis.T @ basis, np.eye(field.size), atol=limit)
    inside = basis.T @ matrix @ basis
    scale = np.max(np.abs(matrix))
    np.testing.assert_allclose(inside, np.diag(host(operator.eigenvalues)), atol=limit * scale)
    rows = np.random.default_rng(0).standard_normal((2, 3, field.size))
    assert_array(operator.inside(array(rows, backend)), rows @ basis, backend, limit)
    assert_array(operator.outside(array(rows @ basis, backend)), rows, backend, limit)


@every
def test_entries_are_looked_up(name, backend):
    field = field_of(name)
    limit = 20 * tolerance_of(backend)
    rng = np.random.default_rng(1)
    for batch in (None, 3):
        operator, matrix = operator_of(field, backend, batch=batch)
        assert_array(operator.dense(), matrix, backend, limit)
        assert_array(operator.diagonal(), np.diagonal(matrix, axis1=-2, axis2=-1), backend, limit)
        chosen = rng.choice(field.size, min(field.size, 7), replace=False)
        index = backend.xp.asarray(chosen.tolist(), dtype=backend.xp.int64, device=backend.device)
        block = operator.block(index)
        assert block.materialised
        assert_array(block.dense(), matrix[..., chosen, :][..., chosen], backend, limit)
        assert_array(operator.rows(index).dense(), matrix[..., chosen, :], backend, limit)
        assert_array(operator.rows(slice(1, 3)).dense(), matrix[..., 1:3, :], backend, limit)


@every
def test_functions_of_it_may_differ_from_row_to_row(name, backend):
    """As with a time for each row of a training batch."""
    field = field_of(name)
    operator, matrix = operator_of(field, backend)
    times = np.array([[0.2], [1.0], [3.0]])
    held = array(times, backend)
    rows = np.random.default_rng(2).standard_normal((3, field.size))
    found = operator.map(lambda values: values / (held * values + 0.5)).matvec(array(rows, backend))
    for k, t in enumerate(times[:, 0]):
        exact = np.linalg.solve(t * matrix + 0.5 * np.eye(field.size), matrix @ rows[k])
        assert_array(found[k, :], exact, backend, 20 * tolerance_of(backend))


def test_the_cosine_transform_is_scipys(precise):
    from scipy.fft import dctn, idctn

    for shape in ((1,), (2,), (7,), (4, 5), (3, 2, 4)):
        field = la.Grid().of(shape)
        x = np.random.default_rng(0).standard_normal((2, *shape))
        axes = tuple(range(1, x.ndim))
        unit = la.Stationary(field, array(np.ones(field.size), precise))
        flat = array(x.reshape(2, -1), precise)
        assert_array(unit.inside(flat), dctn(x, axes=axes, norm="ortho").reshape(2, -1), precise)
        assert_array(unit.outside(flat), idctn(x, axes=axes, norm="ortho").reshape(2, -1), precise)


def test_a_ring_has_the_covariance_of_its_images(precise):
    """exp(-|x|/l) on a ring of n sites, by its spectrum; with mirrored ends by that of twice the length."""
    n, decay = 12, 0.8
    steps = np.arange(n)
    own = decay**steps + decay ** (n - steps)
    ring = la.Stationary(la.Grid(periodic=True).of((n,)), array(np.fft.fft(own).real, precise))
    apart = np.abs(steps[:, None] - steps[None, :])
    assert_array(ring.dense(), own[apart], precise)
    twice = decay ** np.arange(2 * n) + decay ** (2 * n - np.arange(2 * n))
    line = la.Stationary(la.Grid().of((n,)), array(np.fft.fft(twice).real[:n], precise))
    assert_array(line.dense(), twice[apart] + twice[steps[:, None] + steps + 1], precise)


def test_no_array_of_dim_by_dim_is_made():
    """A field of 2^16 numbers: products, functions, determinants, variances and a small block."""
    field = la.Grid(periodic=(True, False)).of((256, 256))
    spectrum = symmetric_spectrum(field, np.random.default_rng(0))
    C = la.Stationary(field, spectrum.reshape(-1))
    v = np.random.default_rng(1).standard_normal((2, field.size))
    np.testing.assert_allclose(C.solve(C.matvec(v)), v, atol=1e-9)
    np.testing.assert_allclose(C.sqrt().matvec(C.sqrt().matvec(v)), C.matvec(v), atol=1e-9)
    assert C.logdet() == pytest.approx(np.sum(np.log(spectrum)), rel=1e-12)
    first = np.zeros(field.size)
    first[70_00] = 1.0
    assert C.diagonal()[70_00] == pytest.approx(C.matvec(first)[70_00], rel=1e-9)
    index = np.array([3, 7_000, 65_000])
    columns = np.stack([C.matvec(np.eye(1, field.size, i)[0]) for i in index])
    np.testing.assert_allclose(C.block(index).dense(), columns[:, index], atol=1e-12)
    np.testing.assert_allclose(C.rows(index).dense(), columns, atol=1e-12)
    for ask in (C.dense, lambda: C.basis):
        with pytest.raises(ValueError, match=r"65536 x 65536 numbers.*matvec"):
            ask()
    many = C.block(np.arange(5_000))
    assert not many.materialised
    rows = np.random.default_rng(2).standard_normal((1, 5_000))
    np.testing.assert_allclose(
        many.matvec(rows)[0], C.matvec(np.pad(rows, ((0, 0), (0, field.size - 5_000))))[0, :5_000], atol=1e-9
    )


def test_what_does_not_fit_a_field_says_so(backend):
    field = la.Grid(channels=1, periodic=True).of((2, 4, 3))
    with pytest.raises(ValueError, match=r"2 x 4 x 3.*spectrum \(\.\.\., 24\).*\(23,\)"):
        la.Stationary(field, array(np.ones(23), backend))
    with pytest.raises(ValueError, match=r"vectors \(2, 2, 2, 12\)"):
        la.Stationary(field, array(np.ones(24), backend), array(np.ones((2, 2, 2, 7)), backend))


@every
def test_taken_apart_and_put_together_a_field_is_the_same(name, backend):
    import json

    operator, matrix = operator_of(field_of(name), backend)
    arrays, content = la.operator_to_dict(operator, "C")
    again = la.operator_from_dict(arrays, json.loads(json.dumps(content)), "C")
    assert again.field == operator.field
    assert_array(again.dense(), matrix, backend, 20 * tolerance_of(backend))
    assert_array(la.placed(operator, backend).dense(), matrix, backend, 20 * tolerance_of(backend))
