"""The Fokker–Planck equation against the paths of `solve`, forward and in reverse.

The number of paths in each of some blocks of cells is compared with the density's share by Pearson's
χ². A right solver fails a comparison with probability 1e-6, and a test of five with 5e-6.
Seeds are stated with each test.
"""

import numpy as np
import pytest
from checks import array, host
from scipy.stats import chi2, norm

import sdeppl as sp

FALSE_ALARM = 1e-6
NUMPY = sp.resolve("numpy")


def assert_paths_follow(grid, density, states, blocks):
    """χ² of the counts in blocks of cells; blocks with less than 10 paths expected are pooled."""
    paths = states.shape[0]
    pooled = []
    for field in (host(grid.histogram(states)), host(density)):
        for axis, n in enumerate(grid.cells):
            shape = (*field.shape[:axis], blocks, n // blocks, *field.shape[axis + 1 :])
            field = field.reshape(shape).sum(axis=axis + 1)
        pooled.append(field.ravel() * grid.volume * paths)
    counts, expected = pooled
    often = expected >= 10
    counts = np.append(counts[often], paths - counts[often].sum())  # the rest, outside included
    expected = np.append(expected[often], paths - expected[often].sum())
    keep = expected > 1e-9
    statistic = np.sum((counts[keep] - expected[keep]) ** 2 / expected[keep])
    assert statistic < chi2.isf(FALSE_ALARM, keep.sum() - 1), (statistic, keep.sum())


def test_paths_in_a_double_well():
    """20,000 paths from the left well, in the middle of crossing the barrier; seed 1. 400 steps."""
    sde = sp.DoubleWell(barrier=1.0, well=1.0, temperature=0.5)
    grid = sp.FokkerPlanckGrid(sde, -3.2, 3.2, 320, "numpy")
    start = grid.density_of(lambda x: norm(-1.0, 0.2).pdf(x[:, 0]))
    density = grid.solve(start, [0.0, 2.0])[-1]
    x = -1.0 + 0.2 * np.random.default_rng(1).standard_normal((20_000, 1))
    path = sp.solve(sde, x, sp.uniform_grid(0.0, 2.0, 400), noise=sp.Noise(1), keep="last")
    assert 0.1 < np.mean(path.states[-1] > 0) < 0.4
    assert_paths_follow(grid, density, path.states[-1], blocks=40)


def van_der_pol():
    """A limit cycle in two dimensions with correlated noise."""
    loading = np.array([[0.6, 0.0], [0.3, 0.5]])

    def drift(x, t):
        u, v = x[:, 0], x[:, 1]
        return np.stack((v, (1 - u * u) * v - u), axis=-1)

    return sp.ItoSDE(drift, lambda x, t: loading, "additive", 2)


def test_paths_on_a_noisy_limit_cycle():
    """20,000 paths of van der Pol's oscillator with correlated noise; seed 2, 500 steps."""
    sde = van_der_pol()
    grid = sp.FokkerPlanckGrid(sde, [-4.8, -6.0], [4.8, 6.0], (144, 144), "numpy")
    mean, sd = np.array([0.8, -0.5]), 0.4
    start = grid.density_of(lambda x: norm(mean, sd).pdf(x).prod(axis=-1))
    density = grid.solve(start, [0.0, 1.5])[-1]
    x = mean + sd * np.random.default_rng(2).standard_normal((20_000, 2))
    path = sp.solve(sde, x, sp.uniform_grid(0.0, 1.5, 500), noise=sp.Noise(2), keep="last")
    assert_paths_follow(grid, density, path.states[-1], blocks=16)


# ---- forward and reverse, a mixture under VP ----------------------------------------------------

VP = sp.VPSDE(sp.LinearSchedule(0.2, 8.0))
WEIGHTS, MEANS, SDS = np.array([0.35, 0.65]), np.array([-1.6, 1.1]), np.array([0.35, 0.5])
TIMES = [0.05, 0.15, 0.35, 0.65, 1.0]


def mixture(x, t):
    """p_t in closed form."""
    alpha, sigma = VP.alpha(t), VP.sigma(t)
    parts = norm(alpha * MEANS, np.sqrt((alpha * SDS) ** 2 + sigma**2)).pdf(np.asarray(x)[..., None])
    return parts @ WEIGHTS


def denoiser():
    covariances = (SDS**2)[:, None, None]
    return sp.GaussianMixtureDenoiser(VP, *(array(v, NUMPY) for v in (WEIGHTS, MEANS[:, None], covariances)))


def box(sde, cells=400):
    return sp.FokkerPlanckGrid(sde, -5.0, 5.0, cells, "numpy")


def start_of(t, paths, seed):
    """Paths from p_t, exactly."""
    generator = np.random.default_rng(seed)
    which = generator.choice(2, size=paths, p=WEIGHTS)
    x0 = MEANS[which] + SDS[which] * generator.standard_normal(paths)
    return (VP.alpha(t) * x0 + VP.sigma(t) * generator.standard_normal(paths))[:, None]


def test_forward_densities_are_the_mixtures_at_five_times():
    grid = box(VP)
    x = grid.axes[0]
    found = grid.solve(mixture(x, 0.0), [0.0, *TIMES], max_step=0.02)
    for t, density in zip(TIMES, found[1:], strict=True):
        assert np.sum(np.abs(density - mixture(x, t))) * grid.volume < 2e-4


@pytest.mark.parametrize("c", [0.0, 0.5, 1.0, 2.0])
def test_reverse_densities_are_the_mixtures_at_five_times(c):
    """From p_1 down to p_0.05. Without noise the cells are upwind, of order 1 only."""
    grid = box(sp.ReverseSDE(VP, denoiser(), c))
    x, down = grid.axes[0], TIMES[::-1]
    found = grid.solve(mixture(x, 1.0), down, max_step=0.01)
    for t, density in zip(down, found, strict=True):
        assert np.sum(np.abs(density - mixture(x, t))) * grid.volume < (0.05 if c == 0 else 1e-3)


def test_forward_paths_follow_the_grid_at_five_times():
    """20,000 paths of the exact step; seed 4."""
    grid = box(VP)
    densities = grid.solve(mixture(grid.axes[0], 0.0), [0.0, *TIMES], max_step=0.02)
    x = start_of(0.0, 20_000, 4)
    path = sp.solve(VP, x, [0.0, *TIMES], solver=sp.ExponentialEuler(), noise=sp.Noise(4))
    for density, states in zip(densities[1:], path.states[1:], strict=True):
        assert_paths_follow(grid, density, states, blocks=40)


@pytest.mark.parametrize("c", [0.0, 0.5, 1.0, 2.0])
def test_reverse_paths_follow_the_forward_grid_at_five_times(c):
    """20,000 paths from p_1 by a second-order solver, 200 steps; seed 6."""
    grid = box(VP)
    densities = grid.solve(mixture(grid.axes[0], 0.0), [0.0, *TIMES], max_step=0.02)
    times = sp.uniform_grid(1.0, 0.05, 190)
    reverse = sp.ReverseSDE(VP, denoiser(), c)
    path = sp.solve(reverse, start_of(1.0, 20_000, 6), times, solver=sp.ExponentialHeun(), noise=sp.Noise(6))
    for t, density in zip(TIMES, densities[1:], strict=True):
        k = int(np.argmin(np.abs(np.array(path.times) - t)))
        assert path.times[k] == pytest.approx(t, abs=1e-9)
        assert_paths_follow(grid, density, path.states[k], blocks=40)
