"""Step control: tolerances kept, evaluations counted, blow-ups reported."""

import math

import numpy as np
import pytest
from checks import array, assert_array, covariance_matrix, dtype_name, fitted_slope, host

import sdeppl as sp
from sdeppl.solvers.adaptive import AdaptiveRun

NUMPY = sp.resolve("numpy")
MEAN, COVARIANCE = np.array([1.5, -0.8, 0.4]), covariance_matrix(3, seed=4, smallest=0.1)
TIMES = [1.0, 0.5, 0.2, 0.05]

# ---- The controller -----------------------------------------------------------------------------


def test_the_error_norm_is_that_of_the_worst_row(backend):
    """Root mean square over components, in units of atol + rtol max(|x_s|, |x_t|), largest over rows."""
    control = sp.PIController(rtol=0.1, atol=0.5)
    before, after = array([[1.0, -2.0], [10.0, 0.0]], backend), array([[-3.0, 1.0], [5.0, 5.0]], backend)
    error = array([[1.6, 0.35], [-3.0, 2.0]], backend)
    rows = [math.sqrt((2.0**2 + 0.5**2) / 2), math.sqrt((2.0**2 + 2.0**2) / 2)]
    np.testing.assert_allclose(host(control.row_errors(error, before, after)), rows, rtol=1e-6)
    assert control.norm(error, before, after) == pytest.approx(rows[1], rel=1e-6)
    assert control.norm(error * math.nan, before, after) == math.inf


def test_the_factor_is_soderlinds():
    control = sp.PIController(safety=0.8, min_factor=0.1, max_factor=6.0)
    assert control.factor(0.5, 0.3, 5.0, False) == pytest.approx(0.8 * 0.5 ** (-0.7 / 5) * 0.3 ** (0.4 / 5))
    assert control.factor(1e-9, 1.0, 2.0, False) == 6.0
    assert control.factor(1e-9, 1.0, 2.0, True) == 1.0
    assert control.factor(3.0, 0.3, 5.0, False) == pytest.approx(0.8 * 3.0 ** (-1 / 5))
    assert control.factor(math.inf, 0.3, 5.0, True) == 0.1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rtol": -1e-3}, "rtol and atol must be ≥ 0"),
        ({"rtol": 0.0, "atol": 0.0}, "one > 0"),
        ({"min_factor": 1.5}, "0 < min_factor < 1 < max_factor"),
        ({"safety": 1.0}, "0 < safety < 1"),
        ({"integral": 0.0}, "integral > 0"),
        ({"first_step": 0.0}, "first_step must be a positive time"),
        ({"max_steps": 0}, "max_steps must be a whole number, at least 1; got 0"),
    ],
)
def test_bad_controllers_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        sp.PIController(**arguments)


# ---- Without noise ------------------------------------------------------------------------------


def flow(sde, backend, paths=20):
    """A probability-flow ODE of a Gaussian, states at t = 1, and the exact states at TIMES."""
    values, basis = np.linalg.eigh(COVARIANCE)
    z = np.random.default_rng(0).standard_normal((paths, 3))

    def states(t):
        root = (basis * np.sqrt(sde.alpha(t) ** 2 * values + sde.sigma(t) ** 2)) @ basis.T
        return sde.alpha(t) * MEAN + z @ root

    prior = sp.GaussianDenoiser(sde, array(MEAN, backend), array(COVARIANCE, backend))
    return sp.ReverseSDE(sde, prior, 0.0), array(states(1.0), backend), np.stack([states(t) for t in TIMES])


@pytest.mark.parametrize(
    ("solver", "slope"),
    [
        (sp.Tsitouras54(), 1.0),
        (sp.DormandPrince54(), 1.0),
        (sp.RungeKutta4(), 4 / 5),
        (sp.ExponentialHeun(), 2 / 3),
        (sp.EulerMaruyama(), 1 / 2),
    ],
    ids=lambda value: type(value).__name__,
)
def test_errors_follow_the_tolerance(solver, slope):
    """Step doubling holds an error ∝ h^{p+1} at the tolerance, so the solve's is ∝ tolerance^{p/(p+1)}; the
    embedded estimate is of order p, so there it is ∝ tolerance. And none exceeds 100 tolerances."""
    reverse, x, exact = flow(sp.VESDE(0.02, 20.0), NUMPY)
    tolerances = 10.0 ** np.arange(-7, -2) if slope > 0.5 else 10.0 ** np.arange(-4, -1)
    errors = []
    for tolerance in tolerances:
        control = sp.PIController(rtol=tolerance, atol=tolerance)
        found = sp.solve(reverse, x, TIMES, solver=solver, control=control)
        errors.append(np.max(np.abs(found.states - exact)))
    assert fitted_slope(tolerances, errors) == pytest.approx(slope, abs=0.1)
    if slope == 1.0:
        assert np.all(errors < tolerances)


def test_every_backend_takes_the_same_steps(backend):
    """rtol 1e-4: the steps of float32 are those of float64, and the states exact to the tolerance."""
    reverse, x, exact = flow(sp.VESDE(0.02, 20.0), backend)
    control = sp.PIController(rtol=1e-4, atol=1e-4)
    found = sp.solve(reverse, x, TIMES, solver=sp.Tsitouras54(), control=control)
    assert found.times == TIMES
    assert_array(found.states, exact, backend, 1e-5)
    reference, start, _ = flow(sp.VESDE(0.02, 20.0), NUMPY)
    expected = sp.solve(reference, start, TIMES, solver=sp.Tsitouras54(), control=control)
    assert found.stats == expected.stats
    tolerance = 1e-12 if dtype_name(backend) == "float64" else 1e-5
    assert_array(found.states, expected.states, backend, tolerance)
    last = sp.solve(reverse, x, TIMES, solver=sp.Tsitouras54(), control=control, keep="last")
    assert_array(last.states[0, ...], host(found.states)[-1], backend, 0.0)


class Scalar(sp.sde.SDE):
    """dx = f(x, t) dt, counting evaluations."""

    def __init__(self, f):
        self.f, self.calls = f, 0

    def drift(self, x, t):
        self.calls += 1
        return self.f(x, t)

    def diffusion(self, x, t):
        return 0.0

    def deterministic(self, s, t):
        return True


@pytest.mark.parametrize(
    "solver", [sp.Tsitouras54(), sp.RungeKutta4(), sp.EulerMaruyama()], ids=lambda s: type(s).__name__
)
@pytest.mark.parametrize("first_step", [None, 0.5])
def test_every_evaluation_is_counted(solver, first_step):
    """With a kink at t = 0.4, so that steps are rejected; forward and falling times."""
    for times in ([0.0, 0.3, 1.0], [1.0, 0.0]):
        sde = Scalar(lambda x, t: -5 * x * abs(t - 0.4))
        control = sp.PIController(rtol=1e-4, atol=1e-6, first_step=first_step)
        found = sp.solve(sde, np.ones((2, 1)), times, solver=solver, control=control)
        assert found.stats["rejected"] >= 1
        assert found.stats["evaluations"] == sde.calls
        integral = (0.16 + 0.36) / 2
        assert found.states[-1, 0, 0] == pytest.approx(
            math.exp(-5 * integral * (times[-1] - times[0])), rel=5e-3
        )


def test_a_time_to_stop_at_does_not_shorten_the_steps_after_it():
    """100 extra output times 1e-9 after others cost about two steps each, and no long recovery."""

    def steps(times):
        sde = Scalar(lambda x, t: np.cos(20 * t) * x)
        control = sp.PIController(rtol=1e-6, atol=1e-6)
        return sp.solve(sde, np.ones((1, 1)), times, solver=sp.Tsitouras54(), control=control).stats[
            "accepted"
        ]

    plain = sp.uniform_grid(0.0, 10.0, 20)
    doubled = sorted([*plain, *(t + 1e-9 for t in plain[:-1])])
    assert steps(doubled) <= steps(plain) + 2 * 20


def test_blow_up_is_reported_with_step_time_and_paths():
    """dx = x² dt from 1 is infinite at t = 1; from -1 it is not."""
    for solver in (sp.Tsitouras54(), sp.EulerMaruyama()):
        with pytest.raises(
            sp.NonFiniteState, match=r"at step \d+, from t=(0\.99|1|1\.0)\d* to t=.* in 1 of 2 paths"
        ):
            sp.solve(
                Scalar(lambda x, t: x * x),
                np.array([[1.0], [-1.0]]),
                [0.0, 2.0],
                solver=solver,
                control=sp.PIController(rtol=1e-3, atol=1e-3),
            )
    broken = Scalar(lambda x, t: x * (math.nan if t > 0.5 else 1.0))
    with pytest.raises(sp.NonFiniteState, match=r"NaN or infinity at step \d+, from t=0\.(5|49999)"):
        sp.solve(broken, np.ones((2, 1)), [0.0, 1.0], solver=sp.Tsitouras54(), control=sp.PIController())
    with pytest.raises(sp.NonFiniteState, match="x_init has NaN or infinity in 1 of 2 paths"):
        sp.solve(
            Scalar(lambda x, t: x),
            np.array([[1.0], [math.nan]]),
            [0.0, 1.0],
            solver=sp.Tsitouras54(),
            control=sp.PIController(),
        )


def test_a_short_pulse_is_met_where_no_step_is_long():
    """dx = δ_w(t - 0.52) dt with w = 1e-3, of integral 1; free steps miss it."""
    w = 1e-3
    lengths = []

    def pulse(x, t):
        lengths.append(t)
        return 0 * x + math.exp(-0.5 * ((t - 0.52) / w) ** 2) / (w * math.sqrt(2 * math.pi))

    ode, x = sp.ItoSDE(pulse, None), np.array([[0.7]])
    ends = []
    for max_step in (math.inf, 2 * w):
        control = sp.PIController(rtol=1e-8, atol=1e-8, max_step=max_step)
        lengths.clear()
        found = sp.solve(ode, x, [0.0, 1.0], solver=sp.DormandPrince54(), control=control)
        ends.append(found.states[-1, 0, 0])
    assert ends[0] == pytest.approx(0.7, abs=1e-6)
    assert ends[1] == pytest.approx(1.7, abs=1e-6)
    assert np.max(np.diff(np.sort(lengths))) <= 2 * w * (1 + 1 / 16)


def test_max_steps():
    with pytest.raises(RuntimeError, match=r"max_steps=3 steps led from t=0 to t=0\.\d+ only"):
        sp.solve(
            Scalar(lambda x, t: 50 * np.cos(50 * t) * x),
            np.ones((1, 1)),
            [0.0, 1.0],
            solver=sp.Tsitouras54(),
            control=sp.PIController(max_steps=3),
        )


def test_the_order_of_the_error_is_known():
    """k of an error ∝ h^k: embedded; by doubling p + 1 without noise, strong order + 1/2 with it."""

    def order(sde, solver, deterministic, path=sp.BrownianPath(0, area=True)):
        stream = path.stream(NUMPY)
        return AdaptiveRun(
            sde, np.ones((1, 1)), [0.0, 1.0], solver, stream, sp.PIController(), deterministic
        ).order

    still, additive = Scalar(lambda x, t: x), sp.LinearSDE(1.0, 1.0)
    assert [
        order(still, solver, True) for solver in (sp.Tsitouras54(), sp.RungeKutta4(), sp.EulerMaruyama())
    ] == [5, 5, 2]
    assert [order(additive, solver, False) for solver in (sp.SRA1(), sp.EulerMaruyama())] == [2, 1.5]
