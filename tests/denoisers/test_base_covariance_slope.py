"""Products of Cov[x_0 | x_t] with columns, and its slope along x_t."""

import mixture_by_hand as by_hand
import numpy as np
import pytest
import torch
from checks import array, assert_array, covariance_matrix, host, torch_device

import sdeppl as sp
from sdeppl.backend import TorchFunction
from sdeppl.denoisers import Denoiser
from sdeppl.linalg import Dense

SDES = {
    "vp": (sp.VPSDE(), 0.3),
    "early vp": (sp.VPSDE(), 0.02),
    "ve": (sp.VESDE(0.05, 4.0), 0.6),
    "linear": (sp.LinearSDE(a=0.7, b=1.3), 0.8),
}
EACH_SDE = pytest.mark.parametrize(("sde", "t"), SDES.values(), ids=SDES)
EACH_KIND = pytest.mark.parametrize("kind", by_hand.KINDS)
RNG = np.random.default_rng(7)
V, SHARED = RNG.standard_normal((6, 3, 2)), RNG.standard_normal((3, 2))
WEIGHTS = RNG.standard_normal((6, 2))
MATRIX = RNG.standard_normal((6, 2, 2))
MATRIX = MATRIX + np.swapaxes(MATRIX, 1, 2)
FORMS = [(V, WEIGHTS), (V, MATRIX), (SHARED, WEIGHTS), (SHARED, MATRIX)]
EACH_FORM = pytest.mark.parametrize(("columns", "weights"), FORMS, ids=["rows", "matrix", "shared", "both"])


def quadratic(parts, sde, t, x, columns, weights):
    """Σ_ab w_ab v_aᵀ C(x) v_b from conditioning."""
    _, covariance = by_hand.isotropic(parts, sde, t, x)
    columns = np.broadcast_to(columns, (len(x), *columns.shape[-2:]))
    if weights.ndim == 2:
        weights = weights[:, :, None] * np.eye(weights.shape[1])
    return np.einsum("bia,bij,bjc,bac->b", columns, covariance, columns, weights)


def by_differences(parts, sde, t, x, columns, weights):
    """Its gradient by central differences of order 4, with steps far below σ."""
    h, gradient = 2e-3 * sde.sigma(t), np.zeros_like(x)
    for i, step in enumerate(h * np.eye(x.shape[1])):
        at = {k: quadratic(parts, sde, t, x + k * step, columns, weights) for k in (-2, -1, 1, 2)}
        gradient[:, i] = (8 * (at[1] - at[-1]) - (at[2] - at[-2])) / (12 * h)
    return gradient


@EACH_SDE
@EACH_KIND
@EACH_FORM
def test_slope_of_a_mixture_is_that_of_conditioning(columns, weights, kind, sde, t, backend):
    """In closed form, and by the default of every denoiser."""
    parts = by_hand.mixture(kind, 3)
    x = host(array(by_hand.states(parts, sde.alpha(t), sde.sigma(t)), backend))
    expected = by_differences(parts, sde, t, x, columns, weights)
    prior = by_hand.denoiser(backend, sde, parts, array)
    arguments = array(x, backend), t, array(columns, backend), array(weights, backend)
    single = "32" in str(backend.dtype)
    assert_array(prior.covariance_slope(*arguments), expected, backend, 1e-4 if single else 1e-8)
    if single and backend.name != "torch":
        return  # differences of float32 numbers: see the test below
    assert_array(Denoiser.covariance_slope(prior, *arguments), expected, backend, 1e-3 if single else 1e-7)


def test_differences_in_float32_keep_two_digits():
    """NumPy in float32 has steps of .04 σ, whose error is of order 1e-2 where two components mix."""
    parts, (sde, t) = by_hand.mixture("unequal", 3), SDES["vp"]
    numpy = sp.resolve("numpy", "float32")
    x = by_hand.states(parts, sde.alpha(t), sde.sigma(t))
    prior = by_hand.denoiser(numpy, sde, parts, array)
    found = Denoiser.covariance_slope(prior, array(x, numpy), t, array(V, numpy), array(WEIGHTS, numpy))
    assert_array(found, by_differences(parts, sde, t, x, V, WEIGHTS), numpy, 3e-2)


@EACH_KIND
def test_slope_of_a_mixture_in_many_dimensions(kind, precise):
    """40 numbers, where the covariance is an operator, against autograd through its dense matrix."""
    parts, (sde, t), rng = by_hand.mixture(kind, 40), SDES["vp"], np.random.default_rng(3)
    x = by_hand.states(parts, sde.alpha(t), sde.sigma(t))
    columns, weights = rng.standard_normal((6, 40, 3)), rng.standard_normal((6, 3))
    torch64 = sp.resolve("torch")
    variable = torch.tensor(x, requires_grad=True)
    dense = by_hand.denoiser(torch64, sde, parts, array)(variable, t).covariance.dense()
    v, w = torch.tensor(columns), torch.tensor(weights)
    torch.einsum("bia,bij,bja,ba->", v, dense, v, w).backward()
    prior = by_hand.denoiser(precise, sde, parts, array)
    found = prior.covariance_slope(array(x, precise), t, array(columns, precise), array(weights, precise))
    assert_array(found, variable.grad.numpy(), precise, 1e-10)


def test_a_gaussian_has_none(backend):
    prior = sp.GaussianDenoiser(
        sp.VPSDE(), array([1.0, -2.0, 0.5], backend), array(covariance_matrix(3, 1), backend)
    )
    x = array(RNG.standard_normal((6, 3)), backend)
    found = prior.covariance_slope(x, 0.3, array(V, backend), array(WEIGHTS, backend))
    assert_array(found, np.zeros((6, 3)), backend)
    rows = Denoiser.covariance_slope(prior, x, 0.3, array(V, backend), array(WEIGHTS, backend))
    assert_array(rows, np.zeros((6, 3)), backend)


def test_an_approximate_covariance_has_no_such_slope():
    prior = sp.GaussianDenoiser(sp.VPSDE(), np.zeros(3), np.eye(3))
    guided = sp.TweedieDenoiser(prior, sp.LinearGaussian(np.eye(3), np.ones(3), 0.5))
    with pytest.raises(TypeError, match="TweedieDenoiser approximates the covariance"):
        guided.covariance_slope(np.zeros((6, 3)), 0.3, V, WEIGHTS)


def smooth_network(backend):
    """A residual MLP in float64 with weights that are not zero."""
    torch.manual_seed(2)
    net = sp.ResidualMLP(3, width=16, depth=2, frequencies=4)
    torch.nn.init.normal_(net.leave.weight, std=0.3)
    torch.nn.init.normal_(net.leave.bias, std=0.3)
    device = torch_device(backend)
    gaussian = sp.GaussianDenoiser(
        SDES["linear"][0], array([2.0, -1.0, 0.5], backend), array(covariance_matrix(3, seed=6), backend)
    )
    return sp.NetworkDenoiser(gaussian, TorchFunction(net.to(torch.float64).to(device)))


@EACH_FORM
def test_slope_of_a_network_is_that_of_autograd(columns, weights, precise):
    """vᵀ C v = σ²/α vᵀ (∂mean/∂x) v, differentiated twice in torch; the learned C need not be symmetric."""
    if precise.name == "cupy" or "cuda" in str(precise.device):
        pytest.skip("the reference is computed on the CPU")
    t, x = 0.6, RNG.standard_normal((6, 3)) + np.array([1.0, 0.0, 0.5])
    reference, denoiser = smooth_network(sp.resolve("torch")), smooth_network(precise)
    w = torch.tensor(weights if weights.ndim == 3 else weights[:, :, None] * np.eye(2))
    v = torch.tensor(np.broadcast_to(columns, (6, 3, 2)).copy())

    def value(row, i):
        jacobian = torch.autograd.functional.jacobian(
            lambda r: reference.mean(r[None], t)[0], row, create_graph=True
        )
        return torch.einsum("ia,ij,jc,ac->", v[i], jacobian, v[i], w[i])

    rows = [torch.tensor(row, requires_grad=True) for row in x]
    gradients = [torch.autograd.grad(value(row, i), row)[0].numpy() for i, row in enumerate(rows)]
    scale = reference.sde.sigma(t) ** 2 / reference.sde.alpha(t)
    found = denoiser.covariance_slope(array(x, precise), t, array(columns, precise), array(weights, precise))
    tolerance = 1e-10 if precise.name == "torch" else 1e-7
    assert_array(found, scale * np.stack(gradients), precise, tolerance)


@pytest.mark.parametrize("kind", ["matrix", "matrices", "network", "black box", *by_hand.KINDS])
@pytest.mark.parametrize("columns", [V, SHARED], ids=["rows", "shared"])
def test_products_with_columns(kind, columns, precise):
    one, several = covariance_matrix(3, 2), np.stack([covariance_matrix(3, seed) for seed in range(6)])
    x, t = RNG.standard_normal((6, 3)), 0.3
    if kind == "network":
        denoiser = smooth_network(precise)
        covariance = denoiser(array(x, precise), t).covariance
        # rows, not the symmetric part that `dense` returns
        products = [
            host(covariance @ array(np.broadcast_to(columns[..., i], (6, 3)), precise)) for i in (0, 1)
        ]
        assert_array(covariance.matmat(array(columns, precise)), np.stack(products, axis=-1), precise, 1e-12)
        return
    if kind in by_hand.KINDS:
        prior = by_hand.denoiser(precise, sp.VPSDE(), by_hand.mixture(kind, 3), array)
        covariance = prior._conditional(array(x, precise), t)[1]
    else:
        matrix = Dense(array(one if kind != "matrices" else several, precise))
        covariance = matrix if kind != "black box" else OnlyProducts(matrix)
    expected = host(covariance.dense()) @ columns
    assert_array(covariance.matmat(array(columns, precise)), expected, precise, 1e-12)
    if columns.ndim == 3:
        v = array(columns[:, :, 0], precise)
        assert_array(covariance @ v, expected[..., 0] if expected.ndim == 3 else expected, precise, 1e-12)


class OnlyProducts(sp.denoisers.Covariance):
    """A covariance of the user's, with the columns of the base class."""

    def __init__(self, matrix):
        self.matrix = matrix

    shared, materialised = True, False

    def product(self, v):
        return self.matrix @ v

    def dense(self):
        return self.matrix.dense()
