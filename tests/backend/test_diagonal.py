"""Every solver, mean likelihood and family of noise on every backend and dtype, against NumPy in float64.

Elsewhere a case of a test runs on two backends; here what it stands for meets all of them, in one step each.
Float32 is held to the tolerance of its file, times ten for what a step adds up.
"""

import inspect
import math
import warnings

import numpy as np
import pytest
from checks import array, assert_array, host, tolerance_of
from everywhere import HERE
from observed_families import CASES, ETA
from problems import COVARIANCE, MEAN, ODE, SDE, SOLVERS, H, R, Y, priors
from simulation import opened

import sdeppl as sp
from sdeppl.likelihood import RUNGS

X = np.random.default_rng(8).standard_normal((4, 4))
TURN = np.array([[0.3, -0.5, 0.0, 0.1], [0.5, 0.3, 0.2, 0.0], [0.0, -0.2, 0.4, 0.1], [0.1, 0.0, 0.3, 0.6]])
S, T = 0.6, 0.5


@pytest.fixture(params=HERE[1:], ids=lambda pair: "-".join(pair))
def other(request):
    """Every backend, device and dtype but NumPy's float64."""
    with opened(*request.param) as found:
        yield found


def close(values, wanted, backend, double=1e-9, single=None):
    """To rounding: 1e-9 in float64, where differences stand for derivatives on some libraries."""
    single = 10 * tolerance_of(backend) if single is None else single
    assert_array(values, host(wanted), backend, double if backend.dtype_name == "float64" else single)


def reverse(backend, c):
    """Of a mixture, in three numbers."""
    return sp.ReverseSDE(SDE, priors(backend)["mixture"], c), array(X[:, :3], backend)


def forward(kind, noise, m=None):
    """dx = cos x dt + noise that grows with x, in four numbers."""

    def sde(backend):
        xp, turn = backend.xp, array(TURN, backend)

        def diffusion(x, t):
            if noise == "general":
                return xp.stack([0.4 * x @ turn, 0.3 + 0.2 * xp.sin(x)], axis=-1)
            return 0.5 + t if noise == "additive" else 0.4 + 0.2 * xp.sin(x)

        return kind(lambda x, t: xp.cos(x) - t * x, diffusion, noise, m), array(X, backend)

    return sde


def matrix(backend):
    return sp.MatrixLinearSDE(array(TURN, backend), array(TURN + np.eye(4), backend)), array(X, backend)


def langevin(backend):
    return sp.LangevinSDE(backend.xp.sin, 0.7, 1.3, 2.0), array(X, backend)


def damped(backend):
    """Of a standard normal score, in two positions with their velocities."""
    sde = sp.CriticallyDampedSDE()
    return sp.ReverseSDE(sde, lambda x, t: -1.7 * x, 0.5), array(X, backend)


DIFFERENCES = [
    forward(sp.ItoSDE, "diagonal"),
    forward(sp.ItoSDE, "general", 2),
]  # stand for derivatives there
OTHERS = {
    "Milstein": (sp.Milstein(), DIFFERENCES[0]),
    "MilsteinLevy": (sp.MilsteinLevy(2), DIFFERENCES[1]),
    "PlatenWeak2, general": (sp.PlatenWeak2(), forward(sp.ItoSDE, "general", 2)),
    "SRIW1, diagonal": (sp.SRIW1(), forward(sp.ItoSDE, "diagonal")),
    "SRA1, forward": (sp.SRA1(), forward(sp.ItoSDE, "additive")),
    "StochasticHeun, general": (sp.StochasticHeun(), forward(sp.StratonovichSDE, "general", 2)),
    "BAOAB": (sp.BAOAB(), langevin),
    "SSCS": (sp.SSCS(), damped),
    "MidpointSSCS": (sp.MidpointSSCS(), damped),
    "ExactAffine": (sp.ExactAffine(), lambda backend: (SDE, array(X, backend))),
    "ExactAffine, matrix": (sp.ExactAffine(), matrix),
    "DormandPrince54": (sp.DormandPrince54(), lambda backend: reverse(backend, 0.0)),
    "DPMSolverPP, order 1": (sp.DPMSolverPP(1), lambda backend: reverse(backend, 1.0)),
    "DPMSolverPP, order 3": (sp.DPMSolverPP(3), lambda backend: reverse(backend, 0.0)),
    "AncestralSampler, transition": (sp.AncestralSampler("transition"), lambda b: reverse(b, 1.0)),
    "PredictorCorrector, order 2": (sp.PredictorCorrector(sp.DPMSolverPP(2), 2), lambda b: reverse(b, 0.0)),
    "UniPC, p = 1": (sp.UniPC(1), lambda backend: reverse(backend, 0.0)),
    "UniPC, p = 3": (sp.UniPC(3), lambda backend: reverse(backend, 0.0)),
    "EDMHeun, churn": (sp.EDMHeun(S_churn=3.0), lambda backend: reverse(backend, 0.0)),
}
EVERY = OTHERS | {
    name: (solver, lambda backend, c=0.0 if name in ODE else 1.0: reverse(backend, c))
    for name, solver in SOLVERS.items()
}


def two_steps(name, backend):
    """The second with what the first remembers."""
    (solver, problem), grid = EVERY[name], [S, T, T - 0.1]
    sde, x = problem(backend)
    up = not sde.falling
    grid = grid[::-1] if up else grid
    deterministic = sde.deterministic(grid[0], grid[1])
    sde, solver = solver.prepare(sde, x, grid[0], deterministic), solver.on_grid(grid)
    memory = solver.init(sde, x, grid[0])
    for k in range(2):
        shapes = solver.draw_shapes(sde, tuple(x.shape))
        z = tuple(
            array(np.random.default_rng([k, i]).standard_normal(shape), backend)
            for i, shape in enumerate(shapes)
        )
        quiet = not z or (deterministic and "extra" not in solver.draws)
        z = None if quiet else z if len(z) > 1 else z[0]
        x, memory = solver.step(sde, x, grid[k], grid[k + 1], z, memory)
    return x


@pytest.mark.parametrize("name", EVERY)
def test_solvers(name, other):
    if name == "ExactAffine, matrix" and other.dtype_name == "float32":
        pytest.skip(
            "Q has many roots, and rounding chooses: tests/solvers/test_exponential_exact.py has L Lᵀ"
        )
    differences = EVERY[name][1] in DIFFERENCES
    tolerances = () if differences else (1e-12, 2e-5)
    close(two_steps(name, other), two_steps(name, sp.resolve("numpy")), other, *tolerances)


def test_every_solver_is_in_the_list():
    classes = {
        one for _, one in inspect.getmembers(sp.solvers, inspect.isclass) if issubclass(one, sp.Solver)
    }
    assert {type(solver) for solver, _ in EVERY.values()} == classes - {sp.Solver, sp.solvers.RungeKutta}


def bent(backend):
    """η_i = sinh of a mixture of x_0, with its Jacobian."""
    xp, operator = backend.xp, array(0.4 * H, backend)

    def function(x0):
        inner = x0 @ operator.T
        return xp.sinh(inner), xp.cosh(inner)[:, :, None] * operator

    return sp.NonlinearGaussian(function, 3, array(Y, backend), array(R, backend))


def straight(backend):
    return sp.LinearGaussian(array(H, backend), array(Y, backend), array(R, backend))


@pytest.mark.parametrize("prior", ["gaussian", "mixture"])
@pytest.mark.parametrize("observation", [straight, bent])
@pytest.mark.parametrize("rung", RUNGS)
def test_mean_likelihoods(rung, observation, prior, other):
    """Mean and likelihood of each row."""
    if rung == "cubature" and observation is straight:
        pytest.skip("cubature is for nonlinear observations")
    if rung == "nested" and observation is bent:
        pytest.skip("its draws know nothing of the observation")

    def guided(backend):
        found = RUNGS[rung](priors(backend)[prior], observation(backend)).guided(array(X[:, :3], backend), S)
        return found.mean, found.log_likelihood

    for found, wanted in zip(guided(other), guided(sp.resolve("numpy")), strict=True):
        close(found, wanted, other)


def test_exact(other):
    """The closed form of a Gaussian and of a mixture, and ln p(y)."""

    def found(backend):
        each = [
            sp.likelihood.exact_posterior(priors(backend)[k], straight(backend))
            for k in ("gaussian", "mixture")
        ]
        x = array(X[:, :3], backend)
        return backend.xp.stack([one.denoiser.mean(x, S) for one in each]), [one.log_evidence for one in each]

    (means, logs), (wanted, wanted_logs) = found(other), found(sp.resolve("numpy"))
    close(means, wanted, other)
    for one, two in zip(logs, wanted_logs, strict=True):
        assert math.isclose(float(one), float(two), rel_tol=max(1e-9, 10 * tolerance_of(other)))


@pytest.mark.parametrize("name", CASES)
def test_families(name, other):
    """ln p(y given η), and the Gaussian that stands for it, of four data."""
    make, y, _ = CASES[name]

    def found(backend):
        identity = array(np.eye(4), backend)
        family = make(lambda numbers: array(numbers, backend))
        seen = sp.IndependentObservation(family, array(y, backend), H=identity)
        eta = array(ETA / 4, backend)
        approximation = seen.site_approximation(seen.linearise(eta), array(np.full(4, 0.3), backend))
        # y' and R' as the number that the guidance takes from them, which rounding leaves alone
        return seen.log_prob(eta), (approximation.y - eta) / (approximation.R + 0.3)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pairs = zip(found(other), found(sp.resolve("numpy")), strict=True)
    for one, wanted in pairs:
        assert_array(one, host(wanted), other, max(1e-7, 100 * tolerance_of(other)))


@pytest.mark.parametrize("name", ["gaussian", "mixture"])
def test_denoisers(name, other):
    """Mean, and the covariance's product with a vector."""

    def found(backend):
        x = array(X[:, :3], backend)
        moments = priors(backend)[name](x, S)
        return moments.mean, moments.covariance.product(x)

    for one, wanted in zip(found(other), found(sp.resolve("numpy")), strict=True):
        close(one, wanted, other)


def test_the_problem_is_no_special_case():
    assert np.linalg.matrix_rank(COVARIANCE) == 3 and np.abs(MEAN).min() > 0.4
