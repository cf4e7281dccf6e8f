"""Steps on torch's meta device: arrays with a shape and no numbers. Whatever reads a number in a step, or
makes an array on the default device instead of x's, raises."""

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from checks import array
from problems import ODE, SDE, SOLVERS, H, R, Y, priors

import sdeppl as sp
from sdeppl.backend import Backend
from sdeppl.posterior.kernel import MomentKernel
from sdeppl.posterior.start import start_moments

META = torch.device("meta")
RUNGS = ("naive", "dps", "sda", "pigdm", "tweedie", "monte-carlo", "nested")


def without_numbers(thing: Any, known: dict[int, Any] | None = None) -> Any:
    """A copy of an object whose arrays, however deep in it, are on the meta device."""
    known = {} if known is None else known
    if id(thing) in known:
        return known[id(thing)]
    if isinstance(thing, torch.Tensor):
        return thing.to(META)
    if isinstance(thing, torch.nn.Module):
        return copy.deepcopy(thing).to(META)
    if isinstance(thing, Backend):
        return replace(thing, device=META)
    if isinstance(thing, (list, tuple)) and not hasattr(thing, "_fields"):
        return type(thing)(without_numbers(part, known) for part in thing)
    if isinstance(thing, dict):
        return {name: without_numbers(part, known) for name, part in thing.items()}
    if type(thing).__module__.startswith("sdeppl") and hasattr(thing, "__dict__"):
        found = known[id(thing)] = copy.copy(thing)
        for name, part in vars(thing).items():
            object.__setattr__(found, name, without_numbers(part, known))
        return found
    return thing


@pytest.mark.parametrize("name", SOLVERS)
def test_a_solver_reads_nothing_in_its_step(name):
    torch_cpu, solver = sp.resolve("torch"), SOLVERS[name]
    prior = priors(torch_cpu)["mixture"]
    x = array(np.zeros((4, 3)), torch_cpu)
    deterministic = name in ODE
    reverse = solver.prepare(sp.ReverseSDE(SDE, prior, 0.0 if deterministic else 1.0), x, 0.9, deterministic)
    solver = solver.on_grid([0.9, 0.7, 0.5])
    sde, x = without_numbers(reverse), x.to(META)
    memory = solver.init(sde, x, 0.9)
    shapes = solver.draw_shapes(sde, tuple(x.shape))
    draws = tuple(torch.empty(shape, dtype=x.dtype, device=META) for shape in shapes)
    z = None if deterministic and "extra" not in solver.draws else draws[0] if len(draws) == 1 else draws
    for s, t in ((0.9, 0.7), (0.7, 0.5)):
        x, memory = solver.step(sde, x, s, t, z, memory)
    assert (x.device, x.dtype, tuple(x.shape)) == (META, torch.float64, (4, 3))


@pytest.mark.parametrize("prior", ["gaussian", "mixture", "network", "array network"])
@pytest.mark.parametrize("rung", RUNGS)
def test_a_guided_step_reads_nothing(rung, prior):
    """The mean likelihood, and the twisted kernel with its weights."""
    if rung == "nested" and prior.endswith("network"):
        pytest.skip("nested draws from a network's p(x_0 given x_t) are a solve of their own")
    torch_cpu = sp.resolve("torch")
    denoiser = priors(torch_cpu)[prior]
    seen = sp.LinearGaussian(array(H, torch_cpu), array(Y, torch_cpu), array(R, torch_cpu))
    twist = sp.Posterior(denoiser, seen, rung, correction=None).denoiser
    start = start_moments(denoiser)
    kernel = MomentKernel(start.basis, start.variances)
    twist, kernel = without_numbers(twist), without_numbers(kernel)
    x = torch.empty((4, 3), dtype=torch.float64, device=META)
    guided = twist.guided(x, 0.6)
    step = sp.ReverseSDE(twist.sde, twist, 1.0).coefficients(0.6, 0.5)
    proposal = kernel.propose(x, guided, step, (SDE.sigma(0.6) / SDE.alpha(0.6)) ** 2)
    moved, weights = proposal.draw(torch.empty_like(x))
    assert (moved.device, moved.dtype, tuple(moved.shape)) == (META, torch.float64, (4, 3))
    assert (weights.device, tuple(weights.shape)) == (META, (4,))


def test_the_device_finds_reads_and_default_devices():
    """What it is for: each of these raises there, and passes on the CPU."""

    class Reading(sp.EulerMaruyama):
        def step(self, sde, x, s, t, z, memory=None):
            return super().step(sde, x * float(x[0, 0] >= 0), s, t, z, memory)

    class Elsewhere(sp.EulerMaruyama):
        def step(self, sde, x, s, t, z, memory=None):
            return super().step(sde, x + torch.ones(3, dtype=x.dtype), s, t, z, memory)

    prior = priors(sp.resolve("torch"))["gaussian"]
    reverse, x = sp.ReverseSDE(SDE, prior), torch.zeros((4, 3), dtype=torch.float64)
    for solver in (Reading(), Elsewhere()):
        solver.step(reverse, x, 0.9, 0.8, x)
        with pytest.raises((RuntimeError, NotImplementedError)):
            solver.step(without_numbers(reverse), x.to(META), 0.9, 0.8, x.to(META))
