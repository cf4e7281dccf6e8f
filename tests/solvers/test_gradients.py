"""Gradients of a solve with respect to parameters and start, where the backend is torch.

The gradient of a scheme on given noise is known: in closed form where the scheme is a product, and
by central differences of order 4 of the same solve in NumPy (relative error about 1e-10) elsewhere.
"""

import math

import numpy as np
import pytest
import torch
from gradient_cases import (
    CASE_IDS,
    CASES,
    PARAMETERS,
    START,
    TIMES,
    WEIGHTS,
    differences,
    geometric,
    ornstein_uhlenbeck,
    tensors,
)

import sdeppl as sp

CHECKPOINTS = pytest.mark.parametrize("checkpoint", [None, 1, 5, 12, 50])


def total(make, solver, p, start, weights=WEIGHTS, **options):
    """A number that depends on every component of the last state."""
    states = sp.solve(make(p), start, TIMES, solver=solver, noise=sp.Noise(3), **options).states
    return (states[-1] * weights).sum()


def gradients(make, solver, **options):
    p, start = tensors(PARAMETERS, START)
    value = total(make, solver, p, start, torch.tensor(WEIGHTS), **options)
    return [g.numpy() for g in torch.autograd.grad(value, (p, start))]


@pytest.mark.parametrize(("make", "solver"), CASES, ids=CASE_IDS)
@pytest.mark.parametrize("checkpoint", [None, 5])
def test_gradients_are_those_of_the_scheme(make, solver, checkpoint):
    of_parameters, of_start = gradients(make, solver, checkpoint=checkpoint)
    np.testing.assert_allclose(
        of_parameters, differences(lambda p: total(make, solver, p, START), PARAMETERS), rtol=1e-8
    )
    np.testing.assert_allclose(
        of_start, differences(lambda x: total(make, solver, PARAMETERS, x), START), rtol=1e-8, atol=1e-10
    )


def host_normals():
    """z of each step, as a solve in host mode draws it: (steps, 3, 2)."""
    stream = sp.Noise(3).stream(sp.resolve("numpy"))
    return np.stack([stream.normal(k + 1, START.shape) for k in range(len(TIMES) - 1)])


@pytest.mark.parametrize("milstein", [False, True])
@CHECKPOINTS
def test_geometric_brownian_motion_in_closed_form(milstein, checkpoint):
    """x_N = x_0 Π m_k with m = 1 + μ h + s √h z (+ ½ s² h (z² - 1)): ∂x_N = x_N Σ ∂m_k/m_k."""
    (mu, s), h, z = PARAMETERS, 1 / 12, host_normals()
    factor, of_s = 1 + mu * h + s * math.sqrt(h) * z, math.sqrt(h) * z
    if milstein:
        factor, of_s = factor + 0.5 * s**2 * h * (z**2 - 1), of_s + s * h * (z**2 - 1)
    last = START * np.prod(factor, axis=0) * WEIGHTS
    expected = [np.sum(last * np.sum(slope / factor, axis=0)) for slope in (h, of_s)]
    solver = sp.Milstein() if milstein else sp.EulerMaruyama()
    of_parameters, of_start = gradients(geometric, solver, checkpoint=checkpoint, keep="last")
    np.testing.assert_allclose(of_parameters, expected, rtol=1e-11)
    np.testing.assert_allclose(of_start, np.prod(factor, axis=0) * WEIGHTS, rtol=1e-11)


@CHECKPOINTS
def test_ornstein_uhlenbeck_in_closed_form(checkpoint):
    """x ← (1 - a h) x + b √h z, differentiated by hand."""
    (a, b), h, x = PARAMETERS, 1 / 12, START
    of_a, of_b = np.zeros_like(x), np.zeros_like(x)
    for z in host_normals():
        of_a, of_b = (1 - a * h) * of_a - h * x, (1 - a * h) * of_b + math.sqrt(h) * z
        x = (1 - a * h) * x + b * math.sqrt(h) * z
    found, of_start = gradients(ornstein_uhlenbeck, sp.EulerMaruyama(), checkpoint=checkpoint)
    np.testing.assert_allclose(found, [np.sum(of_a * WEIGHTS), np.sum(of_b * WEIGHTS)], rtol=1e-11)
    np.testing.assert_allclose(of_start, (1 - a * h) ** 12 * WEIGHTS, rtol=1e-11)


def test_the_gradient_of_an_expectation():
    """Of E[x_T] = e^{-a T} x_0 for OU, by the mean over 40,000 paths: within 4.5 standard errors and
    the scheme's own error (1 - a h)^N; false alarm 7e-6. Seed 3."""
    a, steps = 0.6, 12
    p = torch.tensor([a, 0.5], dtype=torch.float64, requires_grad=True)
    start = torch.full((40_000, 1), 1.3, dtype=torch.float64)
    states = sp.solve(ornstein_uhlenbeck(p), start, TIMES, noise=sp.Noise(3), keep="last").states
    (found,) = torch.autograd.grad(states.mean(), p)
    of_scheme = -1.3 * (1 - a / steps) ** (steps - 1)
    # ∂x_N/∂a has the variance of -h Σ_j (x_j of the noise) (1 - a h)^{N-1-j}; its bound by √T b T
    assert abs(float(found[0]) - of_scheme) < 4.5 * 0.5 / math.sqrt(40_000)
    assert of_scheme == pytest.approx(-1.3 * math.exp(-a), rel=0.06)
    assert abs(float(found[1])) < 4.5 / math.sqrt(40_000)


@pytest.mark.parametrize(
    "make",
    [
        lambda a: sp.LinearSDE(a, 1.0),
        lambda a: sp.VESDE(a, 5.0),
        lambda a: sp.ConstantSchedule(a),
        lambda a: sp.LinearSchedule(a, 5.0),
        lambda a: sp.CosineSchedule(a),
    ],
)
def test_numbers_of_an_sde_that_would_lose_gradients_are_refused(make):
    """`math` makes floats of them: d of the noise would be missing, silently."""
    with pytest.raises(TypeError, match="must be a Python number, through which no gradient flows"):
        make(torch.tensor(0.4, requires_grad=True))
