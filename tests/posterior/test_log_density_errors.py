"""What log_density refuses: arguments, rows and sources that do not fit, and ends that are not known."""

import numpy as np
import pytest
from log_density_targets import X, black_box, mixture

import sdeppl as sp


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"t": 1.0}, r"need 0 <= t < T.* got t=1.0, T=1.0"),
        ({"t": -0.1}, r"need 0 <= t < T.* got t=-0.1"),
        ({"T": 2.0}, r"T no later than the forward SDE's; got t=0.0, T=2.0"),
        ({"probes": 1}, "probes must be a whole number, at least 2; got 1"),
    ],
)
def test_arguments_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        sp.log_density(mixture(sp.VPSDE()), X, **options)


@pytest.mark.parametrize("x", [X[0], X[:, :1], np.ones((2, 3))])
def test_a_wrong_shape(x):
    with pytest.raises(ValueError, match=r"x must be \(batch, 2\); got \("):
        sp.log_density(mixture(sp.VPSDE()), x)


def test_what_is_no_source():
    with pytest.raises(TypeError, match="takes a Denoiser or a ReverseSDE, which holds a score; got VPSDE"):
        sp.log_density(sp.VPSDE(), X)


def test_an_unknown_end_is_asked_for():
    with pytest.raises(ValueError, match=r"function does not know its density at T=1: give terminal"):
        sp.log_density(sp.ReverseSDE(sp.VPSDE(), lambda x, r: -x), X)
    with pytest.raises(ValueError, match="ItoSDE has no T: give the time T"):
        sp.log_density(sp.ReverseSDE(sp.ItoSDE(lambda x, r: x, lambda x, r: x), lambda x, r: -x), X)
    with pytest.raises(ValueError, match=r"CallableDenoiser does not know its density at T=0.5"):
        sp.log_density(black_box(mixture(sp.VPSDE())), X, T=0.5)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        ([[0.0, 0.0]], TypeError, "log_density: x must be an array of NumPy, torch or CuPy; got list"),
        (np.full((1, 2), np.nan), ValueError, "x has NaN or infinity; give log_density finite rows"),
    ],
)
def test_rows_that_are_none_are_refused(x, error, message):
    prior = sp.GaussianDenoiser(sp.VPSDE(), np.zeros(2), np.eye(2))
    with pytest.raises(error, match=message):
        sp.log_density(prior, x)


def test_another_library_is_refused():
    with pytest.raises(sp.BackendMismatch, match="x is of numpy"):
        sp.log_density(mixture(sp.VPSDE(), sp.resolve("torch")), X)


def test_an_end_without_signal_is_named():
    sde = sp.VPSDE(sp.ConstantSchedule(4000.0))
    with pytest.raises(ValueError, match="no signal is left at T=1, where α = 0: use a smaller T or β"):
        sp.log_density(mixture(sde), X)
