"""Gradients of a solve with respect to parameters and start, where the backend is torch.

The gradient of a scheme on given noise is known: in closed form where the scheme is a product, and
by central differences of order 4 of the same solve in NumPy (relative error about 1e-10) elsewhere.
"""

import math
import weakref

import numpy as np
import pytest
import torch
from checks import array, covariance_matrix

import sdeppl as sp
from sdeppl.backend import TorchFunction
from sdeppl.solvers.watch import Watch

TIMES = sp.uniform_grid(0.0, 1.0, 12)
START = np.array([[1.2, 0.5], [-0.4, 0.8], [0.9, 1.6]])
WEIGHTS = np.random.default_rng(0).standard_normal(START.shape)
PARAMETERS = np.array([0.6, 0.5])
CHECKPOINTS = pytest.mark.parametrize("checkpoint", [None, 1, 5, 12, 50])


def geometric(p):
    return sp.ItoSDE(lambda x, t: p[0] * x, lambda x, t: p[1] * x)


def cubic(p):
    return sp.ItoSDE(lambda x, t: p[1] - p[0] * x**3, lambda x, t: p[0] * (1 + p[1] * x * x) ** 0.5)


def ornstein_uhlenbeck(p):
    return sp.ItoSDE(lambda x, t: -p[0] * x, lambda x, t: p[1], noise="additive")


class Logistic(sp.sde.SDE):
    """dx/dt = p_0 x (1 - p_1 x)."""

    def __init__(self, p):
        self.p = p

    def drift(self, x, t):
        return self.p[0] * x * (1 - self.p[1] * x)

    def diffusion(self, x, t):
        return 0.0

    def deterministic(self, s, t):
        return True


CASES = [
    (cubic, sp.EulerMaruyama()),
    (cubic, sp.Milstein()),
    (cubic, sp.SRIW1()),
    (cubic, sp.StochasticHeun()),
    (cubic, sp.PlatenWeak2()),
    (ornstein_uhlenbeck, sp.SRA1()),
    (Logistic, sp.RungeKutta4()),
    (Logistic, sp.Tsitouras54()),
]
CASE_IDS = [f"{make.__name__}-{type(solver).__name__}" for make, solver in CASES]


def total(make, solver, p, start, weights=WEIGHTS, **options):
    """A number that depends on every component of the last state."""
    states = sp.solve(make(p), start, TIMES, solver=solver, noise=sp.Noise(3), **options).states
    return (states[-1] * weights).sum()


def tensors(*arrays):
    return [torch.tensor(a, requires_grad=True) for a in arrays]


def gradients(make, solver, **options):
    p, start = tensors(PARAMETERS, START)
    value = total(make, solver, p, start, torch.tensor(WEIGHTS), **options)
    return [g.numpy() for g in torch.autograd.grad(value, (p, start))]


def differences(function, point, h=1e-3):
    """The gradient of a number by central differences of order 4."""
    found = np.zeros_like(point)
    for index in np.ndindex(point.shape):
        e = np.zeros_like(point)
        e[index] = h
        near, far = (
            function(point + e) - function(point - e),
            function(point + 2 * e) - function(point - 2 * e),
        )
        found[index] = (8 * near - far) / (12 * h)
    return found


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


MATRIX = covariance_matrix(2, seed=5)
SDE = sp.VPSDE(sp.LinearSchedule(0.5, 3.0))


def mixture(p, xp):
    """A mixture whose means are the parameters; the reverse SDE carries them to its draws."""
    means = xp.stack([p, 1 - 0.5 * p])
    covariances = xp.stack([xp.asarray(MATRIX), 0.4 * xp.asarray(MATRIX)])
    return sp.GaussianMixtureDenoiser(SDE, xp.asarray([0.3, 0.7], dtype=xp.float64), means, covariances)


def denoised(p, xp, solver, c, **options):
    reverse = sp.ReverseSDE(SDE, mixture(p, xp), c)
    path = sp.solve(reverse, xp.asarray(START), sp.uniform_grid(1.0, 0.05, 12), solver=solver, **options)
    return (path.states[-1] * xp.asarray(WEIGHTS)).sum()


@pytest.mark.parametrize("checkpoint", [None, 5])
@pytest.mark.parametrize(
    ("solver", "c"),
    [
        (sp.EulerMaruyama(), 1.0),
        (sp.ExponentialHeun(), 0.5),
        (sp.DPMSolverPP(3), 0.0),
        (sp.DPMSolverPP(2), 1.0),
        (sp.UniPC(), 0.0),
        (sp.AncestralSampler(), 1.0),
        (sp.PredictorCorrector(sp.EulerMaruyama()), 1.0),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, sp.solvers.Solver) else str(value),
)
def test_parameters_of_a_denoiser(solver, c, checkpoint):
    """Multistep solvers carry what they remember over the segments' ends."""
    p = torch.tensor([0.7, -0.2], dtype=torch.float64, requires_grad=True)
    value = denoised(p, torch, solver, c, checkpoint=checkpoint)
    (found,) = torch.autograd.grad(value, p)
    expected = differences(lambda q: denoised(q, np, solver, c), p.detach().numpy())
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-7)


@pytest.mark.parametrize("keep", ["all", "last"])
@pytest.mark.parametrize(("make", "solver"), CASES, ids=CASE_IDS)
def test_checkpoints_change_nothing_but_the_memory(make, solver, keep):
    """States equal to the last bit, gradients to rounding; of every kept state, not the last alone."""
    results = []
    for checkpoint in (None, 4):
        p, start = tensors(PARAMETERS, START)
        path = sp.solve(make(p), start, TIMES, solver=solver, keep=keep, checkpoint=checkpoint)
        (path.states**2).sum().backward()
        results.append((path.states.detach().numpy(), p.grad.numpy(), start.grad.numpy()))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    for plain, checkpointed in zip(*(result[1:] for result in results), strict=True):
        np.testing.assert_allclose(checkpointed, plain, rtol=1e-13)


def test_checkpoints_along_a_brownian_path():
    noise, results = sp.BrownianPath(7, 0.0, 1.0, area=True), []
    for checkpoint in (None, 5):
        p, start = tensors(PARAMETERS, START)
        path = sp.solve(cubic(p), start, TIMES, solver=sp.SRIW1(), noise=noise, checkpoint=checkpoint)
        results.append(torch.autograd.grad(path.states.sum(), (p, start)))
    for plain, checkpointed in zip(*results, strict=True):
        torch.testing.assert_close(checkpointed, plain, rtol=1e-13, atol=0)


class Held(torch.autograd.Function):
    """x ↦ x², holding x for its gradient in memory of which we know when it is freed."""

    live: list[weakref.ref] = []
    most = 0

    @staticmethod
    def forward(ctx, x):
        memory = np.empty(x.shape)
        ctx.save_for_backward(torch.from_numpy(memory).copy_(x))
        Held.live.append(weakref.ref(memory))
        return x * x

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        Held.most = max(Held.most, Held.count())
        return 2 * x * gradient

    @staticmethod
    def count():
        return sum(reference() is not None for reference in Held.live)


@pytest.mark.parametrize(
    ("checkpoint", "after", "most"), [(None, 100, 100), (10, 0, 10), (25, 0, 25), (7, 0, 7)]
)
def test_what_checkpoints_hold(checkpoint, after, most):
    """Of 100 steps: plain holds each, with checkpoints none after the solve, a segment's in the gradient."""
    Held.live, Held.most = [], 0
    p, start = tensors(PARAMETERS, START)
    sde = sp.ItoSDE(lambda x, t: -p[0] * Held.apply(x) * x, lambda x, t: p[1] * x)
    times = sp.uniform_grid(0.0, 1.0, 100)
    path = sp.solve(sde, start, times, keep="last", checkpoint=checkpoint)
    assert Held.count() == after
    path.states.sum().backward()
    assert Held.most == most
    assert torch.any(p.grad != 0)


def saved_tensors(checkpoint):
    """How many tensors the graph of a solve of 100 steps saves, by torch's own hooks."""
    p, start = tensors(PARAMETERS, START)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x) or x, lambda x: x):
        sp.solve(geometric(p), start, sp.uniform_grid(0.0, 1.0, 100), keep="last", checkpoint=checkpoint)
    return len(saved)


def test_the_graph_saves_the_segments_ends_alone():
    """A plain step saves four tensors or more, a segment the state (and a dummy of torch's)."""
    assert saved_tensors(None) >= 400
    assert saved_tensors(10) <= 20


def test_the_watch_holds_no_graph():
    (x,) = tensors(START)
    watch = Watch(x, [0.0, 1.0])
    watch.note(x * 2)
    assert not any(getattr(value, "requires_grad", False) for value in vars(watch).values())


def test_a_step_that_blows_up_is_named_under_checkpoints():
    p, start = tensors(np.array([0.0, 0.0]), START)
    sde = sp.ItoSDE(lambda x, t: math.inf * (1 + p[0]) if t > 0.6 else 0 * x, lambda x, t: p[1] * x)
    with pytest.raises(sp.NonFiniteState, match=r"step 9 of 12, from t=0\.66"):
        sp.solve(sde, start, TIMES, checkpoint=5)


def test_native_noise_is_refused():
    with pytest.raises(ValueError, match=r"draws the same noise again .* use Noise"):
        sp.solve(sp.VPSDE(), torch.ones((2, 2)), [0.0, 0.5, 1.0], noise=sp.Noise(0, "native"), checkpoint=1)


@pytest.mark.parametrize("checkpoint", [0, -1, 2.0, True])
def test_a_number_of_steps_that_is_none_is_refused(checkpoint):
    with pytest.raises(ValueError, match="checkpoint must be a number of steps, at least 1, or None; got"):
        sp.solve(sp.VPSDE(), torch.ones((2, 2)), [0.0, 0.5, 1.0], checkpoint=checkpoint)


def test_a_controlled_solve_is_refused():
    with pytest.raises(ValueError, match="steps of a grid, not those of a control"):
        sp.solve(
            Logistic(PARAMETERS), torch.ones((2, 2)), [0.0, 1.0], checkpoint=1, control=sp.PIController()
        )


@pytest.mark.parametrize("name", ["numpy", "strict"])
def test_other_libraries_take_no_gradients(name):
    x = sp.resolve(name).xp.ones((2, 2))
    with pytest.raises(TypeError, match=rf"only torch takes gradients.* got arrays of {name}"):
        sp.solve(sp.VPSDE(), x, [0.0, 0.5, 1.0], checkpoint=1)


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


@pytest.mark.parametrize("guided", [False, True])
def test_gradients_pass_through_an_eps_net(guided):
    """To x_init and, where that needs one, to the net; against differences of the same solve."""
    torch.manual_seed(2)
    net = torch.nn.Sequential(torch.nn.Linear(2, 6), torch.nn.Tanh(), torch.nn.Linear(6, 2)).double()

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x, half_log_snr):
            return self.net(x)

    backend = sp.resolve("torch")
    gaussian = sp.GaussianDenoiser(
        sp.VPSDE(), array([1.0, -0.5], backend), array([[1.5, 0.4], [0.4, 0.7]], backend)
    )
    prior = sp.NetworkDenoiser(gaussian, TorchFunction(Net()))
    if guided:
        seen = sp.LinearGaussian(array([[1.0, 1.0]], backend), array([0.8], backend), 0.3)
        prior = sp.TweedieDenoiser(prior, seen)

    def ends(x):
        reverse = sp.ReverseSDE(sp.VPSDE(), prior, 0.7)
        path = sp.solve(reverse, x, [1.0, 0.5, 0.2], solver=sp.ExponentialHeun(), noise=sp.Noise(3))
        return torch.sum(torch.sin(path.states[-1, ...]))

    x = torch.tensor([[0.4, -1.0], [1.2, 0.3]], dtype=torch.float64, requires_grad=True)
    ends(x).backward()
    weight, h = net[0].weight, 1e-6
    found = float(weight.grad[1, 0])
    with torch.no_grad():
        weight[1, 0] += h
        up = ends(x)
        weight[1, 0] -= 2 * h
        down = ends(x)
        weight[1, 0] += h
        moved = torch.zeros_like(x)
        moved[1, 0] = h
        slope = (ends(x + moved) - ends(x - moved)) / (2 * h)
    assert float(x.grad[1, 0]) == pytest.approx(float(slope), rel=1e-6)
    assert found == pytest.approx(float((up - down) / (2 * h)), rel=1e-6)
    assert not prior.mean(x.detach(), 0.5).requires_grad
