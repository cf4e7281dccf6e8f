"""A learned covariance that is not positive, as near T, where little trains the slope of a network."""

import numpy as np
import pytest
import torch
from checks import array, assert_array, covariance_matrix, host

import sdeppl as sp

DIM, OBSERVED = 40, 6  # more numbers than are repaired inside a mean likelihood


class Slope(torch.nn.Module):
    """F(x) = x A, whose Jacobian makes the learned covariance negative along some directions."""

    def __init__(self, A):
        super().__init__()
        self.A = torch.nn.Parameter(torch.as_tensor(A))

    def forward(self, x, half_log_snr):
        return x @ self.A.to(x.dtype)


@pytest.fixture
def prior(precise):
    """C = C_G^½ (I + ρ A) C_G^½ in the eigenbasis, about: A = -3/α(T) along half of the directions, so large
    that C is negative along them even at T, where ρ is small."""
    mean = np.linspace(-1.0, 2.0, DIM)
    gaussian = sp.GaussianDenoiser(
        sp.VPSDE(), array(mean, precise), array(covariance_matrix(DIM, seed=5), precise)
    )
    A = np.diag(np.where(np.arange(DIM) % 2, -3.0, 0.5)) / sp.VPSDE().alpha(1.0)
    return sp.NetworkDenoiser(gaussian, sp.backend.TorchFunction(Slope(A)))


def observation(precise):
    rng = np.random.default_rng(7)
    return sp.LinearGaussian(
        H=array(rng.standard_normal((OBSERVED, DIM)), precise),
        y=array(rng.standard_normal(OBSERVED), precise),
        R=0.3,
    )


def test_the_guided_covariance_is_that_of_its_positive_part(prior, precise):
    seen, x = observation(precise), array(np.linspace(-2.0, 1.5, DIM)[None, :], precise)
    learned = host(prior(x, 1.0).covariance.dense())[0]
    variances, basis = np.linalg.eigh(learned)
    assert variances[0] < -0.5  # else this tests nothing
    positive = (basis * np.maximum(variances, 0.0)) @ basis.T
    H = host(seen.H)
    gain = np.linalg.solve(H @ positive @ H.T + 0.3 * np.eye(OBSERVED), H @ positive)
    found = sp.TweedieDenoiser(prior, seen, gradient="mean")(x, 1.0).covariance.dense()
    assert_array(found, (positive - positive @ H.T @ gain)[None], precise, 1e-8)


def test_a_posterior_can_be_made_where_the_learned_covariance_is_not_positive(prior, precise):
    """It raised LinAlgError (NumPy), or 'noise_to_signal must be positive; got nan' (torch)."""
    posterior = sp.Posterior(prior, observation(precise), likelihood="tweedie", correction=None)
    start = posterior.start
    # x_T given y is nearly the noise alone: its standard deviations lie within 5% of σ(T) = 1
    np.testing.assert_allclose(np.linalg.eigvalsh(host(start.root.dense())), 1.0, atol=0.05)
    assert 0 < posterior.level <= 1e-3
