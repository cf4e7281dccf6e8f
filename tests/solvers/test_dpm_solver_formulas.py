"""DPM-Solver++'s weights and steps against quadrature and against the published formulas."""

import math

import numpy as np
import pytest
from linear_probes import EACH_SDE, SDES, Given, exact_map, grids_of, reverse_of, slope
from mixture_start import mixture_reverse
from scipy.integrate import quad

import sdeppl as sp
from sdeppl.solvers.exponential import interpolation_weights, kernel_moments


@pytest.mark.parametrize("q", [1e-9, 1e-3, 0.3, 0.999, 1.0, 4.0, 60.0])
def test_moments_of_the_kernel_are_its_integrals(q):
    found = kernel_moments(q, 4)
    for n in range(4):
        exact, _ = quad(lambda u, n=n: q * math.exp(-q * u) * (1 - u) ** n, 0, 1, epsabs=0, epsrel=1e-13)
        assert found[n] == pytest.approx(exact, rel=1e-12)


def test_weights_integrate_polynomials_exactly():
    places, q = [0.0, -0.7, 1.0, -2.1], 1.7
    weights = interpolation_weights(places, q)
    for n in range(4):
        total = sum(w * place**n for w, place in zip(weights, places, strict=True))
        assert total == pytest.approx(kernel_moments(q, 4)[n], abs=1e-13)


def published(sde, reverse, x, times, order, c, z, factor=1.0, first=None):
    """The multistep formulas as the authors' code and diffusers have them (solver_type 'heun'), in NumPy.

    c = 0: dpmsolver++; c = 1: sde-dpmsolver++, orders 1 and 2. factor: of the third order's D2. first: the
    state after the first step, where it is to be another than theirs.
    """
    memory, states = [], []
    for s, t, normal in zip(times[:-1], times[1:], z, strict=True):
        lambda_s, lambda_t = sde.half_log_snr(s), sde.half_log_snr(t)
        h, m0 = lambda_t - lambda_s, reverse.nonlinear(x, s)
        r = [(a - b) / h for (a, _), (b, _) in zip([(lambda_s, m0), *memory], memory, strict=False)]
        q = (1 + c) * h
        phi_1 = np.exp(-q) - 1
        phi_2 = phi_1 / q + 1
        x = sde.sigma(t) / sde.sigma(s) * np.exp(-c * h) * x - sde.alpha(t) * phi_1 * m0
        x = x + sde.sigma(t) * np.sqrt(1 - np.exp(-2 * c * h)) * normal
        if order > 1 and memory:
            D1 = (m0 - memory[0][1]) / r[0]
            if order > 2 and len(memory) > 1:
                D1_1 = (memory[0][1] - memory[1][1]) / r[1]
                D2 = factor * (D1 - D1_1) / (r[0] + r[1])
                D1 = D1 + r[0] / (r[0] + r[1]) * (D1 - D1_1)
                x = x - sde.alpha(t) * (phi_2 / q - 0.5) * D2
            x = x + sde.alpha(t) * phi_2 * D1
        x = first if first is not None and not memory else x
        memory = [(lambda_s, m0), *memory][:2]
        states.append(x)
    return np.stack(states)


@EACH_SDE
@pytest.mark.parametrize(("order", "c"), [(1, 0.0), (2, 0.0), (1, 1.0), (2, 1.0)])
def test_against_the_published_formulas(sde, order, c):
    times, rng = [1.0, 0.8, 0.7, 0.35, 0.3, 0.02], np.random.default_rng(6)
    x, z, reverse = rng.standard_normal((7, 2)), rng.standard_normal((5, 7, 2)), mixture_reverse(sde, c)
    path = sp.solve(reverse, x, times, solver=sp.DPMSolverPP(order), noise=Given(z))
    expected = published(sde, reverse, x, times, order, c, z)
    np.testing.assert_allclose(path.states[1:], expected, atol=1e-12)


def test_the_published_third_order_has_order_2():
    """The authors' code and diffusers take half of the second difference: with twice it, and a start of order
    2, their formula is ours and of order 3; as published it is of order 2."""
    sde, measured = SDES["vp"], {}
    for factor in (1.0, 2.0):
        grids, found = grids_of(sde, "λ", (64, 128, 256)), []
        for times in grids:
            reverse, x = reverse_of(sde, 0.0), np.concatenate([np.zeros((1, 2)), np.eye(2)])
            path = sp.solve(reverse, x, times, solver=sp.DPMSolverPP(3)).states
            silent = np.zeros((len(times) - 1, 1, 1))
            third = published(sde, reverse, x, times, 3, 0.0, silent, factor, first=path[1])
            found.append(np.linalg.norm((third[-1, 1:] - third[-1, 0]).T - exact_map(sde, 0.0, 1.0, 0.1)))
        measured[factor] = slope(grids, found)
    assert measured[1.0] == pytest.approx(2.0, abs=0.1)
    assert measured[2.0] == pytest.approx(3.0, abs=0.1)


def test_order_3_is_the_integral_of_the_parabola():
    """Through the evaluation at s and two remembered ones, by quadrature, with c = 0.5."""
    sde, c, (first, second, s, t) = SDES["ve"], 0.5, (0.8, 0.7, 0.35, 0.3)
    reverse, (x, y) = mixture_reverse(sde, c), np.random.default_rng(6).standard_normal((2, 7, 2))
    place, stop = sde.half_log_snr(s), sde.half_log_snr(t)
    memory = tuple((sde.half_log_snr(r), reverse.nonlinear(y, r)) for r in (second, first))
    found, kept = sp.DPMSolverPP(3).step(reverse, x, s, t, np.zeros((7, 2)), memory)
    nodes = ((place, reverse.nonlinear(x, s)), *memory)
    values = np.stack([value.ravel() for _, value in nodes])
    parabola = np.polyfit([node - place for node, _ in nodes], values, 2)[::-1]
    q = 1 + c**2
    integrals = [
        quad(lambda u, n=n: q * np.exp(q * (place + u - stop)) * u**n, 0, stop - place)[0] for n in range(3)
    ]
    total = np.reshape(integrals @ parabola, (7, 2))
    decay = sde.sigma(t) / sde.sigma(s) * np.exp(-(c**2) * (stop - place))
    np.testing.assert_allclose(found, decay * x + sde.alpha(t) * total, atol=1e-11)
    assert [node for node, _ in kept] == [place, memory[0][0]]
