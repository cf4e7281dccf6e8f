"""WienerReparam: another parametrisation of the same model."""

import itertools
import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

import sdeppl as sp

TIMES = [0.3, 0.45, 1.1, 2.0]


def level_model(start, y=None):
    x = pyro.sample("level", sp.SDEPath(sp.LinearSDE(0.4, 1.5), start, TIMES))
    pyro.sample("y", dist.Normal(x, 0.6).to_event(1), obs=y)


@pytest.mark.parametrize(
    "start", [dist.Normal(torch.tensor(1.7).double(), 1.4), torch.tensor(0.7).double(), 2], ids=str
)
def test_reparametrised_posterior_differs_by_the_constant_jacobian(start):
    y = torch.tensor([0.3, -1.0, 2.0, 1.1], dtype=torch.float64)
    other = poutine.reparam(level_model, config={"level": sp.WienerReparam()})
    sde = sp.LinearSDE(0.4, 1.5)
    differences = []
    for seed in range(4):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            noncentred = poutine.trace(other).get_trace(start, y)
        path = noncentred.nodes["level"]["value"]
        centred = poutine.trace(poutine.condition(level_model, {"level": path})).get_trace(start, y)
        differences.append(float(centred.log_prob_sum() - noncentred.log_prob_sum()))
    random_start = isinstance(start, torch.distributions.Distribution)
    assert ("level_start" in noncentred.nodes) == random_start
    grid = TIMES if random_start else [0.0, *TIMES]
    gaps = [sde.transition(s, t).covariance for s, t in itertools.pairwise(grid)]
    # x = φ x' + √q z: ln |dz/dx| summed over the steps
    jacobian = -0.5 * sum(math.log(q) for q in gaps)
    tolerance = 1e-9 if noncentred.nodes["level"]["value"].dtype == torch.float64 else 1e-4
    np.testing.assert_allclose(differences, jacobian, atol=tolerance)


def test_reparametrised_prior_in_a_plate_has_the_same_moments():
    # 4 000 series of 4 states, seed 8: means within 5 standard errors (false alarm below 4 × 6e-7),
    # variances within 5 (below 4 × 6e-7)
    def model():
        with pyro.plate("series", 4000):
            start = dist.Normal(torch.tensor(1.7).double(), math.sqrt(2.5))
            pyro.sample("level", sp.SDEPath(sp.LinearSDE(0.8, 1.3), start, TIMES))

    with torch.random.fork_rng():
        torch.manual_seed(8)
        trace = poutine.trace(poutine.reparam(model, config={"level": sp.WienerReparam()})).get_trace()
    draws = trace.nodes["level"]["value"].numpy()
    decay = np.exp(-0.8 * (np.array(TIMES) - TIMES[0]))
    mean, variance = 1.7 * decay, 2.5 * decay**2 + 1.3**2 / 1.6 * (1 - decay**2)
    assert draws.shape == (4000, 4)
    assert np.all(np.abs(draws.mean(0) - mean) < 5 * np.sqrt(variance / 4000))
    assert np.all(np.abs(draws.var(0) - variance) < 5 * variance * math.sqrt(2 / 4000))


def test_reparam_errors_name_the_site():
    def other():
        pyro.sample("level", dist.Normal(0.0, 1.0))

    with pytest.raises(TypeError, match="'level': WienerReparam needs an SDEPath; got Normal"):
        poutine.reparam(other, config={"level": sp.WienerReparam()})()

    def observed():
        pyro.sample("level", sp.SDEPath(sp.VPSDE(), 0.0, [0.5]), obs=torch.ones(1))

    with pytest.raises(ValueError, match="'level' is observed"):
        poutine.reparam(observed, config={"level": sp.WienerReparam()})()


def test_a_known_number_in_a_plate_is_a_batch_of_numbers():
    start = torch.tensor(0.7, dtype=torch.float64)

    def model():
        with pyro.plate("series", 5):
            pyro.sample("x", sp.SDEPath(sp.LinearSDE(0.8, 1.3), start, TIMES))

    trace = poutine.trace(poutine.reparam(model, config={"x": sp.WienerReparam()})).get_trace()
    value = trace.nodes["x"]["value"]
    assert (value.shape, value.dtype) == ((5, 4), torch.float64)
    # five paths, not one of five numbers: each follows its own noise
    noise = trace.nodes["x_noise"]["value"]
    first = 0.7 * math.exp(-0.24) + math.sqrt(1.3**2 / 1.6 * (1 - math.exp(-0.48))) * noise[:, 0]
    torch.testing.assert_close(value[:, 0], first)
