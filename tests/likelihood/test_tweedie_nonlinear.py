"""The Tweedie likelihood of a nonlinear operator: linearised at the mean, exact where it is affine."""

import numpy as np
import pytest
from checks import array, assert_array, host
from tweedie_priors import DIM, PRIORS, R_DIAGONAL, R_FULL, H, X, Y, assert_same, linear

import sdeppl as sp


def sine(backend):
    """A(x) = (sin x₀ + x₁², x₂ x₃, x₄), with its Jacobian."""

    def numbers(x):
        zero, one = 0 * x[:, 0], 0 * x[:, 0] + 1
        value = np.stack([np.sin(x[:, 0]) + x[:, 1] ** 2, x[:, 2] * x[:, 3], x[:, 4]], axis=1)
        rows = [
            [np.cos(x[:, 0]), 2 * x[:, 1], zero, zero, zero],
            [zero, zero, x[:, 3], x[:, 2], zero],
            [zero, zero, zero, zero, one],
        ]
        return value, np.stack([np.stack(row, axis=1) for row in rows], axis=1)

    return numbers, lambda x: tuple(array(a, backend) for a in numbers(host(x)))


@PRIORS
@pytest.mark.parametrize("method", ["dense", "matrix-free"])
@pytest.mark.parametrize("R", [R_DIAGONAL, R_FULL], ids=["diagonal", "full"])
def test_a_nonlinear_operator_is_linearised_at_the_mean(prior_on, method, R, precise):
    """m + C Jᵀ (J C Jᵀ + R)⁻¹ (y - A(m)) and C - C Jᵀ (…)⁻¹ J C, row by row."""
    numbers, function = sine(precise)
    prior, t = prior_on(precise, sp.VPSDE()), 0.4
    seen = sp.NonlinearGaussian(function, DIM, array(Y, precise), array(R, precise))
    guided = sp.TweedieDenoiser(prior, seen, method, tolerance=1e-13, iterations=20, gradient="mean")
    moments = prior(array(X, precise), t)
    m, C = host(moments.mean), np.broadcast_to(host(moments.covariance.dense()), (len(X), DIM, DIM))
    value, J = numbers(m)
    noise = np.diag(R) if R.ndim == 1 else R
    means, covariances = [], []
    for i in range(len(X)):
        gain = C[i] @ J[i].T @ np.linalg.inv(J[i] @ C[i] @ J[i].T + noise)
        means.append(m[i] + gain @ (Y - value[i]))
        covariances.append(C[i] - gain @ J[i] @ C[i])
    assert_array(guided.mean(array(X, precise), t), np.stack(means), precise, 1e-9)
    assert_array(guided(array(X, precise), t).mean, np.stack(means), precise, 1e-9)
    assert_array(guided(array(X, precise), t).covariance.dense(), np.stack(covariances), precise, 1e-9)


@PRIORS
@pytest.mark.parametrize("missing", [False, True])
def test_an_affine_function_is_the_linear_operator(prior_on, missing, precise):
    offset = np.array([1.0, 2.0, -3.0])
    y = np.where([False, missing, False], np.nan, Y)
    jacobian = array(H, precise)

    def affine(x):
        everywhere = precise.xp.broadcast_to(jacobian, (x.shape[0], 3, DIM))
        return x @ jacobian.T + array(offset, precise), everywhere

    prior, x = prior_on(precise, sp.VPSDE()), array(X, precise)
    one = sp.TweedieDenoiser(
        prior, sp.NonlinearGaussian(affine, DIM, array(y, precise), array(R_FULL, precise))
    )
    other = sp.TweedieDenoiser(prior, linear(precise, y=y - offset, R=R_FULL))
    assert_same(one, other, x, 0.4, precise, 1e-10)
