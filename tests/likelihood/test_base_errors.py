"""What observations and the Tweedie likelihood refuse, and what they say."""

import numpy as np
import pytest
from checks import array, covariance_matrix

import sdeppl as sp

H = np.random.default_rng(12).standard_normal((3, 5))
Y = np.array([1.0, -2.0, 3.5])
R_DIAGONAL, R_FULL = np.array([0.3, 1.1, 0.05]), covariance_matrix(3, seed=13, smallest=0.1, largest=1.0)


def linear(backend, rows=H, y=Y, R=R_DIAGONAL):
    return sp.LinearGaussian(array(rows, backend), array(y, backend), array(R, backend))


@pytest.mark.parametrize(
    ("rows", "y", "R", "message"),
    [
        (
            H,
            Y[:2],
            R_DIAGONAL,
            r"expected H \(observations, dim\) and y \(observations,\); got \(3, 5\) and \(2,\)",
        ),
        (H[0], Y[:1], R_DIAGONAL[:1], r"got \(5,\) and \(1,\)"),
        (H, Y, R_DIAGONAL[:2], r"expected R of shape \(3,\) or \(3, 3\); got \(2,\)"),
        (
            H,
            np.array([1.0, np.inf, 0.0]),
            R_DIAGONAL,
            "the data hold infinity; mark what was not observed with NaN",
        ),
        (H, Y, np.array([1.0, 0.0, 1.0]), "must be positive definite; its smallest eigenvalue is 0"),
        (H, Y, R_FULL - np.eye(3), "must be positive definite; its smallest eigenvalue is -0.9"),
        (H, Y, R_FULL + np.triu(np.ones((3, 3)), 1), "the noise covariance R must be symmetric"),
        (H, Y, np.array([1.0, np.nan, 1.0]), "R holds NaN or infinity"),
        (H, Y, np.array([1.0, np.inf, 1.0]), "R holds NaN or infinity"),
    ],
)
def test_a_bad_observation_is_refused(rows, y, R, message, backend):
    with pytest.raises(ValueError, match=message):
        linear(backend, rows, y, R)


def test_a_prior_that_does_not_fit_is_refused():
    numpy = sp.resolve("numpy")
    prior = sp.GaussianDenoiser(sp.VPSDE(), np.zeros(5), np.eye(5))
    with pytest.raises(ValueError, match="the observation operator takes 4 values, the prior has 5"):
        sp.TweedieDenoiser(prior, linear(numpy, rows=H[:, :4]))
    with pytest.raises(sp.BackendMismatch, match="y is of torch on cpu, expected numpy on cpu"):
        sp.TweedieDenoiser(prior, linear(sp.resolve("torch")))
    with pytest.raises(sp.BackendMismatch, match="R is of torch on cpu, expected numpy on cpu"):
        sp.LinearGaussian(H, Y, array(R_DIAGONAL, sp.resolve("torch")))
    with pytest.raises(ValueError, match="method='exact' is unknown; use 'auto', 'dense', 'matrix-free' or"):
        sp.TweedieDenoiser(prior, linear(numpy), "exact")
