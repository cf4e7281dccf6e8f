"""Checkpoints change nothing but the memory of a solve that is differentiated; what they refuse."""

import math
import weakref

import numpy as np
import pytest
import torch
from gradient_cases import CASE_IDS, CASES, PARAMETERS, START, TIMES, Logistic, cubic, geometric, tensors

import sdeppl as sp
from sdeppl.solvers.watch import Watch


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
    with pytest.raises(ValueError, match=r"checkpoint, the steps .* must be a whole number, at least 1; got"):
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
