"""What SDEs, grids and densities say of arguments that are none."""

import numpy as np
import pytest
import torch

import sdeppl as sp

VP = sp.VPSDE()
EYE = np.eye(2)
ONE = np.ones(1)
MARGINALS = sp.AffineMarginals(VP, ONE, np.zeros((1, 2)), EYE[None])
MATRIX = sp.MatrixLinearSDE(EYE, EYE)


def grid_of(cells=5, sde=VP):
    return sp.FokkerPlanckGrid(sde, -4.0, 4.0, cells, "numpy")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: sp.VPSDE(T="1"), ValueError, "VPSDE: T must be a finite number; got '1'"),
        (lambda: sp.VPSDE(T=None), ValueError, "VPSDE: T must be a finite number; got None"),
        (
            lambda: sp.VPSDE(lambda t: t),
            ValueError,
            r"as LinearSchedule is; .* by CallableSchedule\(function",
        ),
        (lambda: sp.VPSDE(sp.LinearSchedule), ValueError, r"write LinearSchedule\(\.\.\.\)"),
        (lambda: sp.ConstantSchedule(np.ones(2)), ValueError, "value must be a finite number"),
        (lambda: sp.MatrixLinearSDE(EYE.tolist(), EYE), TypeError, "MatrixLinearSDE: A must be an array"),
        (lambda: sp.MatrixLinearSDE(EYE, torch.eye(2)), sp.BackendMismatch, "MatrixLinearSDE: B is of torch"),
        (lambda: sp.MatrixLinearSDE(EYE, EYE.astype("f4")), TypeError, "A is float64, B float32"),
        (lambda: sp.MatrixLinearSDE(EYE, EYE, T="a"), ValueError, "T must be positive and finite; got 'a'"),
        (lambda: sp.ItoSDE(-1.0, 1.0), TypeError, r"drift must be a function \(x, t\) ↦ array; got -1.0"),
        (lambda: sp.to_ito(abs), TypeError, r"to_ito takes an SDE, such as ItoSDE\(.*; got builtin"),
        (
            lambda: sp.to_stratonovich(sp.VPSDE),
            TypeError,
            "to_stratonovich takes an SDE.* got the class VPSDE",
        ),
        (
            lambda: sp.uniform_grid(0, 1, 10.0),
            ValueError,
            "steps must be a whole number, at least 1; got 10.0",
        ),
        (lambda: sp.log_snr_grid(sp.VPSDE, 9), TypeError, "log_snr_grid needs .* got the class VPSDE"),
        (lambda: sp.log_snr_grid(MATRIX, 9), TypeError, "got MatrixLinearSDE; use uniform_grid"),
        (lambda: sp.edm_grid(sp.CriticallyDampedSDE(), 9), TypeError, "edm_grid needs .* use uniform_grid"),
        (lambda: sp.ddpm_grid(VP, 1000), TypeError, "betas must be all numbers of the chain.* got 1000"),
        (lambda: sp.ncsn_grid(sp.VESDE(), 10), TypeError, "sigmas must be all numbers of the chain.* got 10"),
        (lambda: VP.moments(np.zeros(2), EYE, 0.1, s=0.9), ValueError, "a forward SDE runs forward"),
        (lambda: VP.advance(np.zeros(2), 0.9, 0.1, np.zeros(2)), ValueError, "a forward SDE runs forward"),
    ],
)
def test_sdes_and_grids(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_chain_longer_than_the_default_takes_a_larger_end():
    # the docstring's advice: Ho et al.'s own chain
    betas = np.linspace(1e-4, 0.02, 1000)
    times = sp.ddpm_grid(sp.VPSDE(T=1.01), betas)
    assert len(times) == 1001
    assert np.isclose(sp.VPSDE(T=1.01).alpha(times[0]) ** 2, np.prod(1 - betas), rtol=1e-10)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: sp.AffineMarginals(VP, [1.0], [[0.0]], [[[1.0]]]), TypeError, "means must be an array"),
        (
            lambda: MARGINALS.score(np.zeros((4, 3)), 0.5),
            ValueError,
            r"x must be \(\.\.\., 2\); got \(4, 3\)",
        ),
        (
            lambda: MARGINALS.sample(10, 0.5),
            ValueError,
            r"sample\(t, n\): n must be a whole number.* got 0.5",
        ),
        (lambda: MARGINALS.sample(0.5, 0), ValueError, "n must be a whole number, at least 1; got 0"),
        (lambda: MARGINALS.sample(0.5, 10, 3), TypeError, r"noise must be a Noise.* use seed=3"),
        (lambda: grid_of(5.0), ValueError, "cells must be a whole number, at least 3; got 5.0"),
        (lambda: grid_of(5, MATRIX), ValueError, r"states of dim 2, cells=\(5,\) are of 1"),
        (
            lambda: grid_of((5, 5), sp.MatrixLinearSDE(torch.eye(2), torch.eye(2))),
            sp.BackendMismatch,
            "MatrixLinearSDE's A is of torch on cpu",
        ),
        (lambda: grid_of().density_of(lambda x: 1.0), ValueError, r"must return \(5,\); got float"),
        (
            lambda: grid_of((5, 5)).density_of(abs),
            ValueError,
            r"gets centres \(25, 2\) and must return \(25,\)",
        ),
        (lambda: grid_of().histogram(np.zeros(10)), ValueError, r"x must be \(n, 1\); got \(10,\)"),
        (lambda: grid_of().histogram(torch.zeros(10, 1)), sp.BackendMismatch, "x is of torch on cpu"),
        (lambda: grid_of().solve([1.0] * 5, [0.0, 1.0]), TypeError, "density: expected an array"),
    ],
)
def test_densities(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: sp.ReverseSDE(MARGINALS, VP),
            TypeError,
            "forward must be a forward SDE.* got AffineMarginals",
        ),
        (
            lambda: sp.ReverseSDE(sp.VPSDE, MARGINALS),
            TypeError,
            "forward must be a forward SDE such as VPSDE",
        ),
        (lambda: sp.ReverseSDE(sp.ReverseSDE(VP, MARGINALS), MARGINALS), TypeError, "got ReverseSDE"),
        (lambda: sp.ReverseSDE(VP, MARGINALS, "a"), ValueError, "c must be a number >= 0, .* got 'a'"),
        (lambda: sp.ReverseSDE(VP, MARGINALS, [1.0]), ValueError, r"c must be a number >= 0, .* got \[1.0\]"),
        (
            lambda: sp.ReverseSDE(sp.SubVPSDE(), MARGINALS),
            ValueError,
            "has other marginals than the forward SDE",
        ),
    ],
)
def test_reverse_sdes(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_denoiser_of_an_equal_sde_is_taken():
    equal = sp.VPSDE(sp.CallableSchedule(lambda t: 0.1 + 19.9 * t))
    assert sp.ReverseSDE(equal, MARGINALS).forward is equal


def test_objects_show_what_they_are():
    sde = sp.StratonovichSDE(lambda x, t: x, lambda x, t: x)
    assert repr(sp.to_ito(sde)) == "to_ito(StratonovichSDE(noise='diagonal'))"
    assert repr(MARGINALS) == f"AffineMarginals({VP}, components=1, dim=2)"
    assert "cells=(5,)" in repr(grid_of())


def test_a_drift_of_another_shape_is_not_spread_over_the_rows():
    """As many rows as components: -Σ x, (3,), would broadcast along the wrong axis, unseen."""
    sde = sp.ItoSDE(lambda x, t: -x.sum(-1), lambda x, t: 1.0, "additive")
    with pytest.raises(
        ValueError, match=r"the drift must return an array like x, \(3, 3\); got shape \(3,\)"
    ):
        sp.solve(sde, np.ones((3, 3)), [0.0, 1.0])


@pytest.mark.parametrize("solver", [sp.EulerMaruyama(), sp.SRA1()])
def test_a_matrix_is_not_taken_for_amplitudes_of_the_states(solver):
    """As many states as components: elementwise g z would pass unseen where g zᵀ is meant."""
    g, x = np.array([[1.0, 0.8], [0.0, 0.5]]), np.zeros((2, 2))
    with pytest.raises(ValueError, match=r"an additive g \(2, 2\) .* say wiener_dim=2 for a matrix"):
        sp.solve(sp.ItoSDE(lambda x, t: -x, lambda x, t: g, "additive"), x, [0.0, 1.0], solver=solver)
    sde = sp.ItoSDE(lambda x, t: -x, lambda x, t: g, "additive", wiener_dim=2)
    found = sp.solve(sde, x, [0.0, 1.0], noise=sp.Noise(2)).states[-1]
    z = sp.Noise(2).stream(sp.backend.backend_of(x)).normal(1, (2, 2))
    np.testing.assert_allclose(found, z @ g.T, rtol=1e-12)
