"""Adaptive steps with noise: one Brownian path, whatever is rejected."""

import itertools
import math

import numpy as np
import pytest
from checks import array, assert_array, dtype_name, fitted_slope

import sdeppl as sp
from sdeppl.solvers import BrownianStream
from sdeppl.solvers.brownian import Piece

NUMPY = sp.resolve("numpy")


class Geometric(sp.sde.SDE):
    """dx_1 = μ x_1 dt + s x_1 dW and dx_2 = dW, with one W: the second component tells which W was used."""

    noise = "scalar"
    mu, s = 0.3, 1.0

    def drift(self, x, t):
        return x * self._pair(x, self.mu, 0.0)

    def diffusion(self, x, t):
        return x * self._pair(x, self.s, 0.0) + self._pair(x, 0.0, 1.0)

    def diffusion_jvp(self, x, t, v):
        return v * self._pair(x, self.s, 0.0)

    def _pair(self, x, first, second):
        return array([first, second], sp.backend.backend_of(x))

    def exact(self, w, t=1.0):
        return np.exp((self.mu - self.s**2 / 2) * t + self.s * w)


def start(paths, backend=NUMPY):
    return array(np.tile([1.0, 0.0], (paths, 1)), backend)


def rough(tolerance, **others):
    """A controller that begins with the whole interval, and rejects often."""
    control = {"integral": 1.0, "proportional": 0.0, "safety": 0.99, "max_factor": 10.0, "first_step": 1.0}
    return sp.PIController(rtol=tolerance, atol=tolerance, **{**control, **others})


class Redrawn(BrownianStream):
    """What must not be done: independent increments at each query, also after a rejection."""

    def between(self, s, t, shape):
        self.count = getattr(self, "count", 0) + 1
        length = abs(t - s)
        rng = np.random.default_rng((self.path.seed, self.count))
        return Piece(length, math.sqrt(length) * rng.standard_normal(shape))


def one_by_one(solver, control, seeds, stream=None):
    """Each path on its own, so that its steps depend on it alone: states at t = 1, and rejections."""
    sde, found, rejected = Geometric(), [], 0
    for seed in seeds:
        path = sp.BrownianPath(seed)
        noise = path if stream is None else stream(path, NUMPY)
        solved = sp.solve(sde, start(1), [0.0, 1.0], solver=solver, noise=noise, control=control, keep="last")
        found.append(solved.states[0, 0])
        rejected += solved.stats["rejected"]
    return np.array(found), rejected


def test_rejections_do_not_bias_the_path():
    """E[x_1] = e^μ, E[W²] = 1 and E[W] = 0 within 4 standard errors with 1,000 paths; where increments
    are redrawn after a rejection, E[W²] is off by more than 8.

    Seeds 0 … 999, each in its own solve, and fixed, so that there is no false alarm later.
    """
    control, paths = rough(0.02), 1_000
    deviations = {}
    for name, stream in (("path", None), ("redrawn", Redrawn)):
        found, rejected = one_by_one(sp.Milstein(), control, range(paths), stream)
        assert rejected > 0.5 * paths
        statistics = np.stack([found[:, 0] - math.exp(Geometric.mu), found[:, 1] ** 2 - 1, found[:, 1]])
        deviations[name] = np.mean(statistics, axis=1) / np.std(statistics, axis=1) * math.sqrt(paths)
    assert np.max(np.abs(deviations["path"])) < 4
    assert deviations["redrawn"][1] < -8


def test_the_increments_used_are_the_paths_own(backend):
    """x_2 is W(t) at each output time, whatever was rejected in between."""
    path, times = sp.BrownianPath(3), [0.0, 0.3, 0.77, 1.0]
    found = sp.solve(
        Geometric(), start(4, backend), times, solver=sp.Milstein(), noise=path, control=rough(0.001)
    )
    assert found.stats["rejected"] >= 3
    assert found.stats["evaluations"] == 3 * (found.stats["accepted"] + found.stats["rejected"])
    expected = [path.increment(0.0, t, (4, 1), NUMPY)[:, 0] if t else np.zeros(4) for t in times]
    tolerance = 1e-14 if dtype_name(backend) == "float64" else 2e-6
    assert_array(found.states[..., 1], np.stack(expected), backend, tolerance)


@pytest.mark.parametrize("solver", [sp.Milstein(), sp.StochasticHeun()], ids=["Milstein", "StochasticHeun"])
def test_strong_errors_follow_the_tolerance(solver):
    """An error ∝ h^{3/2} in each step is held at the tolerance; these add up like independent ones, to
    one ∝ h ∝ tolerance^{2/3}. Five solves of 40 paths, seeds 0 … 4; the slope varies by .06
    between sets of seeds.
    """
    tolerances, errors = [0.03, 0.01, 0.003, 0.001], []
    for tolerance in tolerances:
        squares = []
        for seed in range(5):
            path = sp.BrownianPath(seed)
            found = sp.solve(
                Geometric(),
                start(40),
                [0.0, 1.0],
                solver=solver,
                noise=path,
                keep="last",
                control=sp.PIController(rtol=tolerance, atol=tolerance),
            )
            w = path.increment(0.0, 1.0, (40, 1), NUMPY)[:, 0]
            squares.append((found.states[0, :, 0] - Geometric().exact(w)) ** 2)
        errors.append(np.sqrt(np.mean(squares)))
    assert fitted_slope(tolerances, errors) == pytest.approx(2 / 3, abs=0.2)
    assert errors[-1] < 0.02


def test_euler_maruyama_would_converge_to_another_process():
    """Why it is refused: with steps chosen by the path, the terms ½ g ∂g (ΔW² - h) that it leaves out
    keep a mean, and smaller tolerances do not help, while Milstein's error falls below a fifth of it.

    60 paths, seeds 0 … 59."""

    class Unguarded(sp.EulerMaruyama):
        strong_order = {"scalar": 1.0}

    w = np.array([sp.BrownianPath(seed).increment(0.0, 1.0, (1, 1), NUMPY)[0, 0] for seed in range(60)])
    found = {}
    for solver, tolerance in ((Unguarded(), 0.03), (Unguarded(), 0.01), (sp.Milstein(), 0.01)):
        states, _ = one_by_one(solver, sp.PIController(rtol=tolerance, atol=tolerance), range(60))
        found[type(solver), tolerance] = np.sqrt(np.mean((states[:, 0] - Geometric().exact(w)) ** 2))
    assert found[Unguarded, 0.01] > 0.7 * found[Unguarded, 0.03] > 0.2
    assert found[sp.Milstein, 0.01] < 0.2 * found[Unguarded, 0.01]
    with pytest.raises(
        TypeError, match=r"EulerMaruyama has strong order 0\.5 for scalar noise.*another process"
    ):
        sp.solve(Geometric(), start(1), [0.0, 1.0], noise=sp.BrownianPath(0), control=sp.PIController())


def test_nothing_that_was_read_is_stepped_over(monkeypatch):
    """'No skip': no later query has an end of an earlier one strictly inside, which it would then ignore."""
    queries, between = [], BrownianStream.between
    monkeypatch.setattr(
        BrownianStream,
        "between",
        lambda self, s, t, shape: queries.append((s, t)) or between(self, s, t, shape),
    )
    found = sp.solve(
        Geometric(),
        start(2),
        [0.0, 0.61, 1.0],
        solver=sp.Milstein(),
        noise=sp.BrownianPath(1),
        control=rough(0.003),
    )
    assert found.stats["rejected"] >= 3
    for i, (s, t) in enumerate(queries):
        for earlier in itertools.chain.from_iterable(queries[:i]):
            assert not s < earlier < t


def test_what_cannot_be_stepped_adaptively_is_refused():
    sde, x, control = sp.LinearSDE(1.0, 1.0), np.ones((2, 3)), sp.PIController()
    for noise in (None, sp.Noise(1), sp.Noise(1).stream(NUMPY)):
        with pytest.raises(
            TypeError, match=r"must read one Brownian path.*use noise=BrownianPath.*got NoiseStream"
        ):
            sp.solve(sde, x, [0.0, 1.0], noise=noise, control=control)
    with pytest.raises(ValueError, match="area=True"):
        sp.solve(sde, x, [0.0, 1.0], solver=sp.SRA1(), noise=sp.BrownianPath(0), control=control)
    with pytest.raises(TypeError, match="Tsitouras54 takes no noise"):
        sp.solve(sde, x, [0.0, 1.0], solver=sp.Tsitouras54(), noise=sp.BrownianPath(0), control=control)

    class Weak(sp.EulerMaruyama):
        strong_order = {"additive": math.nan}

    with pytest.raises(TypeError, match="Weak has strong order nan"):
        sp.solve(sde, x, [0.0, 1.0], solver=Weak(), noise=sp.BrownianPath(0), control=control)
    commuting = sp.ItoSDE(lambda x, t: -x, lambda x, t: x[..., None] * np.ones(2), "general", 2)
    with pytest.raises(
        TypeError, match="MilsteinLevy draws levy, which belong to no step that may be rejected"
    ):
        sp.solve(
            commuting, x, [0.0, 1.0], solver=sp.MilsteinLevy(4), noise=sp.BrownianPath(0), control=control
        )
    with pytest.raises(TypeError, match="control must be a PIController"):
        sp.solve(sde, x, [0.0, 1.0], noise=sp.BrownianPath(0), control=1e-3)
    with pytest.raises(
        sp.NonFiniteState, match=r"too large an error at step .* this BrownianPath's tolerance allows"
    ):
        sp.solve(
            Geometric(),
            start(2),
            [0.0, 1.0],
            solver=sp.Milstein(),
            noise=sp.BrownianPath(0, tolerance=1e-3),
            control=sp.PIController(1e-5, 1e-5),
        )
    with pytest.raises(ValueError, match="too close for this BrownianPath"):
        sp.solve(
            sde,
            x,
            [0.0, 1e-3, 1.0],
            noise=sp.BrownianPath(0, tolerance=0.1),
            control=sp.PIController(1.0, 1.0),
        )
