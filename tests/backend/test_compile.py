"""torch.compile of a solver's step: one graph, without a break, and the same numbers."""

import numpy as np
import pytest
import torch
from checks import array
from problems import ODE, SDE, SOLVERS, H, R, Y, priors

import sdeppl as sp

TRACED = [
    ("ExponentialHeun", "network"), ("ExponentialEuler", "mixture"), ("EulerMaruyama", "array network"),
    ("DPMSolverPP", "network"), ("AncestralSampler", "gaussian"), ("UniPC", "gaussian"),
]  # fmt: skip


def assert_one_graph(reverse, solver, deterministic):
    """Traced whole, by the compiler's front end alone: a break or a read by the host raises."""
    backend, rng = sp.resolve("torch"), np.random.default_rng(5)
    x, z = (array(rng.standard_normal((4, 3)), backend) for _ in range(2))
    z = None if deterministic else z
    reverse = solver.prepare(reverse, x, 0.9, deterministic)
    solver = solver.on_grid([0.9, 0.7, 0.5])
    memory = solver.init(reverse, x, 0.9)

    def step(x, z):
        return solver.step(reverse, x, 0.9, 0.7, z, memory)[0]

    torch.compiler.reset()
    compiled = torch.compile(step, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x, z), step(x, z), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("name", "prior"), TRACED)
def test_a_step_is_one_graph(name, prior):
    deterministic = name in ODE
    reverse = sp.ReverseSDE(SDE, priors(sp.resolve("torch"))[prior], 0.0 if deterministic else 1.0)
    assert_one_graph(reverse, SOLVERS[name], deterministic)


@pytest.mark.parametrize(("prior", "rung"), [("mixture", "dps"), ("network", "tweedie"), ("mixture", "sda")])
def test_a_guided_step_is_one_graph(prior, rung):
    backend = sp.resolve("torch")
    seen = sp.LinearGaussian(array(H, backend), array(Y, backend), array(R, backend))
    guided = sp.Posterior(priors(backend)[prior], seen, rung, correction=None).denoiser
    assert_one_graph(sp.ReverseSDE(SDE, guided, 1.0), SOLVERS["ExponentialEuler"], False)
