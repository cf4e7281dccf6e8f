"""Itô and Stratonovich: the correction against formulas by hand, and the check of noise classes."""

import numpy as np
import pytest
from checks import array, assert_array, host

import sdeppl as sp
from sdeppl.backend import backend_of
from sdeppl.sde import check_noise_class, noise_correction

X = np.array([[0.5, -1.2], [2.0, 0.3], [-0.7, 1.1]])
T = 0.4


def drift(x, t):
    return -x + t


def scalar_g(x, t):
    """g = (x_0 x_1, sin x_0 + t)."""
    xp = backend_of(x).xp
    return xp.stack((x[..., 0] * x[..., 1], xp.sin(x[..., 0]) + t), axis=-1)


def scalar_correction(x):
    """(Dg) g by hand: (x_1 g_0 + x_0 g_1, cos x_0 g_0)."""
    g_0, g_1 = x[:, 0] * x[:, 1], np.sin(x[:, 0]) + T
    return np.stack((x[:, 1] * g_0 + x[:, 0] * g_1, np.cos(x[:, 0]) * g_0), axis=-1)


def diagonal_g(x, t):
    """g_i = sin x_i + t."""
    return backend_of(x).xp.sin(x) + t


def diagonal_correction(x):
    return np.cos(x) * (np.sin(x) + T)


def general_g(x, t):
    """Columns (1, x_1), (0, x_0), (t, x_0²): they do not commute."""
    xp, one = backend_of(x).xp, 0 * x[..., 0] + 1
    top = xp.stack((one, 0 * one, t * one), axis=-1)
    bottom = xp.stack((x[..., 1], x[..., 0], x[..., 0] ** 2), axis=-1)
    return xp.stack((top, bottom), axis=-2)


def general_correction(x):
    """Σ_k (Dg_k) g_k by hand: (0, x_1) + (0, 0) + (0, 2 x_0 t)."""
    return np.stack((0 * x[:, 0], x[:, 1] + 2 * x[:, 0] * T), axis=-1)


CASES = {
    "scalar": (scalar_g, None, scalar_correction),
    "diagonal": (diagonal_g, None, diagonal_correction),
    "general": (general_g, 3, general_correction),
}
EACH_CASE = pytest.mark.parametrize("noise", CASES)


@pytest.mark.parametrize("falling", [False, True])
def test_the_mean_grows_whichever_way_time_runs(falling):
    """dx = 0.6 x ∘ dW is x_0 e^{0.6 W}, whose mean grows by a factor e^{0.18} per unit of time."""

    class Geometric(sp.StratonovichSDE):
        pass

    class Converted(sp.ItoSDE):
        pass

    Geometric.falling = Converted.falling = falling
    x, direction = np.array([[2.0, -0.5]]), -1.0 if falling else 1.0
    ito = sp.to_ito(Geometric(lambda x, t: 0 * x, lambda x, t: 0.6 * x))
    np.testing.assert_allclose(direction * ito.drift(x, T), 0.18 * x, rtol=1e-9)
    back = sp.to_stratonovich(Converted(lambda x, t: 0 * x, lambda x, t: 0.6 * x))
    np.testing.assert_allclose(direction * back.drift(x, T), -0.18 * x, rtol=1e-9)


def tolerance(backend):
    return 1e-9 if "64" in str(backend.dtype) else 1e-3


@EACH_CASE
def test_the_correction_is_the_one_by_hand(noise, backend):
    g, wiener_dim, correction = CASES[noise]
    x, exact = array(X, backend), correction(X)
    ito = sp.ItoSDE(drift, g, noise, wiener_dim)
    stratonovich = sp.StratonovichSDE(drift, g, noise, wiener_dim)
    assert_array(noise_correction(ito, x, T), exact, backend, tolerance(backend))
    # ∘ adds half the correction to the Itô drift
    assert_array(sp.to_ito(stratonovich).drift(x, T), -X + T + 0.5 * exact, backend, tolerance(backend))
    assert_array(sp.to_stratonovich(ito).drift(x, T), -X + T - 0.5 * exact, backend, tolerance(backend))
    for converted in (sp.to_ito(stratonovich), sp.to_stratonovich(ito)):
        assert (converted.noise, converted.wiener_dim) == (noise, wiener_dim)
        np.testing.assert_array_equal(host(converted.diffusion(x, T)), host(g(x, T)))
    assert (sp.to_ito(stratonovich).calculus, sp.to_stratonovich(ito).calculus) == ("ito", "stratonovich")


@EACH_CASE
def test_the_way_back_is_the_sde_itself(noise):
    g, wiener_dim, _ = CASES[noise]
    ito = sp.ItoSDE(drift, g, noise, wiener_dim)
    stratonovich = sp.StratonovichSDE(drift, g, noise, wiener_dim)
    assert sp.to_ito(ito) is ito and sp.to_ito(sp.to_stratonovich(ito)) is ito
    assert sp.to_stratonovich(stratonovich) is stratonovich
    assert sp.to_stratonovich(sp.to_ito(stratonovich)) is stratonovich


def test_additive_noise_is_the_same_in_both():
    for kind in (sp.ItoSDE, sp.StratonovichSDE):
        sde = kind(drift, lambda x, t: 0.7, "additive")
        assert sp.to_ito(sde) is sde and sp.to_stratonovich(sde) is sde
        np.testing.assert_array_equal(noise_correction(sde, X, T), 0 * X)


@pytest.mark.parametrize("convert", [sp.to_ito, sp.to_stratonovich])
def test_a_derivative_given_by_the_user_is_used(convert):
    """One that is wrong on purpose, by a factor of 3, shows in the drift."""
    kind = sp.StratonovichSDE if convert is sp.to_ito else sp.ItoSDE
    sde = kind(drift, diagonal_g, "diagonal", diffusion_jvp=lambda x, t, v: 3 * np.cos(x) * v)
    sign = 1 if convert is sp.to_ito else -1
    expected = -X + T + sign * 1.5 * diagonal_correction(X)
    np.testing.assert_allclose(convert(sde).drift(X, T), expected, rtol=1e-12)
    np.testing.assert_allclose(convert(sde).diffusion_jvp(X, T, X), 3 * np.cos(X) * X, rtol=1e-12)


# ---- whether g is what its noise class says -----------------------------------------------------


def neighbour_g(x, t):
    """g_0 depends on x_1."""
    xp = backend_of(x).xp
    return xp.stack((1 + x[..., 1] ** 2, 1 + x[..., 1]), axis=-1)


def test_honest_sdes_pass(backend):
    x = array(X, backend)
    matrix = array([[1.0, 0.2, 0.0], [0.3, 0.5, 1.0]], backend)
    for g, noise, m in (
        (scalar_g, "scalar", None),
        (diagonal_g, "diagonal", None),
        (general_g, "general", 3),
        (lambda x, t: 0.3 + t, "additive", None),
        (lambda x, t: array([0.3, 0.5], backend), "additive", None),
        (lambda x, t: matrix, "additive", 3),
    ):
        sde = sp.ItoSDE(drift, g, noise, m)
        check_noise_class(sde, x, T)
        check_noise_class(sp.ReverseSDE(sde, lambda x, t: -x), x, T)


@pytest.mark.parametrize("start", [X, X[:1], 0 * X, X[0]], ids=["rows", "one row", "zeros", "no batch"])
def test_diagonal_noise_that_mixes_components_is_refused(start, backend):
    sde = sp.ItoSDE(drift, neighbour_g, "diagonal")
    message = r"ItoSDE says noise='diagonal', but component 0 .* say noise='general' with wiener_dim=2"
    with pytest.raises(ValueError, match=message):
        check_noise_class(sde, array(start, backend), T)


@pytest.mark.parametrize("start", [X, 0 * X[:1]], ids=["rows", "one row of zeros"])
def test_additive_noise_that_changes_with_x_is_refused(start, backend):
    sde = sp.ItoSDE(drift, diagonal_g, "additive")
    with pytest.raises(ValueError, match=r"says noise='additive', but its diffusion changes with x, by"):
        check_noise_class(sde, array(start, backend), T)


def test_every_pair_of_components_is_seen():
    """g_i depends on x_j: refused for each i ≠ j, and i is named; one row of six components."""
    x = np.linspace(0.5, 2.0, 6)[None, :]
    for i in range(6):
        for j in range(6):

            def g(y, t, i=i, j=j):
                found = 1 + y**2
                found[..., i] += 1e-3 * y[..., j]
                return found

            sde = sp.ItoSDE(drift, g, "diagonal")
            if i == j:
                check_noise_class(sde, x, T)
            else:
                with pytest.raises(ValueError, match=f"component {i} of its diffusion changes"):
                    check_noise_class(sde, x, T)


def test_states_stay_where_the_noise_is_defined():
    """√x of a positive state must not be asked for negative ones, nor for NaN to be an alarm."""
    seen = []

    def root(x, t):
        seen.append(x.min())
        return np.sqrt(x)

    check_noise_class(sp.ItoSDE(drift, root), np.array([[1e-3, 2.0], [0.0, 5.0]]), T)
    assert min(seen) >= 0
    check_noise_class(sp.ItoSDE(drift, lambda x, t: np.where(x > 1, np.nan, x)), np.abs(X), T)


@pytest.mark.parametrize(
    ("noise", "wiener_dim", "g", "message"),
    [
        ("diagonal", None, lambda x, t: 0.3, "must be an array like x .* got a number; say noise='additive'"),
        ("diagonal", None, lambda x, t: x[..., :1], r"must be like x, \(3, 2\); got shape \(3, 1\)"),
        ("scalar", None, lambda x, t: x[..., None], r"must be like x, \(3, 2\); got shape \(3, 2, 1\)"),
        ("general", 3, lambda x, t: x[..., None], r"must be \(3, 2, 3\) .* got shape \(3, 2, 1\)"),
        ("additive", 3, lambda x, t: np.eye(2), r"must be \(2, 3\) .* got shape \(2, 2\)"),
        ("additive", None, lambda x, t: np.eye(5), r"must be a number or \(2,\) .* got shape \(5, 5\)"),
    ],
)
def test_a_diffusion_of_another_shape_is_refused(noise, wiener_dim, g, message):
    with pytest.raises(ValueError, match=message):
        check_noise_class(sp.ItoSDE(drift, g, noise, wiener_dim), X, T)


def test_a_solve_checks_where_the_class_matters():
    """Euler–Maruyama is right for any g; a conversion and a reverse drift are not, nor other solvers."""
    wrong = sp.ItoSDE(drift, neighbour_g, "diagonal")
    times = [0.0, 0.01]
    assert sp.solve(wrong, X, times).states.shape == (2, 3, 2)
    with pytest.raises(ValueError, match="StratonovichSDE says noise='diagonal'"):
        sp.solve(sp.StratonovichSDE(drift, neighbour_g, "diagonal"), X, times)
    with pytest.raises(ValueError, match="ItoSDE says noise='diagonal'"):
        sp.solve(sp.ReverseSDE(wrong, lambda x, t: -x, 0.0), X, times[::-1])

    class Picky(sp.EulerMaruyama):
        any_diffusion = False

    with pytest.raises(ValueError, match="ItoSDE says noise='diagonal'"):
        sp.solve(wrong, X, times, solver=Picky())


def test_no_rows_are_no_reason_to_complain(backend):
    sde = sp.GeometricBrownianMotion(0.4, 0.6)
    path = sp.solve(sde, array(np.ones((0, 2)), backend), [0.0, 0.5, 1.0], solver=sp.Milstein())
    assert tuple(path.states.shape) == (3, 0, 2)
