"""A noise class that is wrong is seen although g is 0 where a solve starts, and whoever solves."""

import numpy as np
import pytest

import sdeppl as sp


def nothing(x, t):
    return 0 * x


def crossed(x, t):
    """(∂g_2/∂x) g_1 = (0, t), (∂g_1/∂x) g_2 = 0: not commutative but at t = 0."""
    zero, one = np.zeros_like(x[..., 0]), np.ones_like(x[..., 0])
    rows = [np.stack([one, zero], axis=-1), np.stack([zero, t * x[..., 0]], axis=-1)]
    return np.stack(rows, axis=-2)


def growing(x, t):
    return t * x


@pytest.mark.parametrize("times", [[0.0, 0.5, 1.0], [0.0, 1.0]])
@pytest.mark.parametrize(
    ("sde", "solver", "message"),
    [
        (
            sp.ItoSDE(nothing, growing, "additive"),
            sp.SRA1(),
            "says noise='additive', but its diffusion changes",
        ),
        (
            sp.ItoSDE(nothing, lambda x, t: t * x[..., ::-1]),
            sp.Milstein(),
            "says noise='diagonal', but component",
        ),
        (sp.ItoSDE(nothing, crossed, "general", 2), sp.Milstein(), "Milstein takes commutative noise"),
        (sp.StratonovichSDE(nothing, growing, "additive"), sp.EulerMaruyama(), "says noise='additive'"),
    ],
    ids=["additive", "diagonal", "general", "stratonovich"],
)
def test_a_wrong_noise_class_is_refused(sde, solver, message, times):
    with pytest.raises(ValueError, match=message):
        sp.solve(sde, np.ones((4, 2)), times, solver=solver)


def test_a_grid_refuses_it_too():
    grid = sp.FokkerPlanckGrid(sp.StratonovichSDE(nothing, growing, "additive"), 0.5, 2.0, 20, "numpy")
    with pytest.raises(ValueError, match="says noise='additive'"):
        grid.solve(np.ones(20), [0.0, 1.0], edge_mass=1.0)


@pytest.mark.parametrize("diffusion", [growing, lambda x, t: 0.5 * x], ids=["from 0 on", "at once"])
def test_a_log_density_refuses_it_too(diffusion):
    """Without ∇·(g gᵀ), which additive noise has none of, it would be off by a few tenths."""
    reverse = sp.ReverseSDE(sp.ItoSDE(nothing, diffusion, "additive"), lambda x, t: -x)
    with pytest.raises(ValueError, match="says noise='additive'"):
        sp.log_density(reverse, np.ones((3, 1)), T=1.0, terminal=lambda x: 0 * x[:, 0])
