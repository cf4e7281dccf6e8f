"""Posteriors of models that observe sites at values computed from latents, against closed forms.

Gaussian models: the run must be exact, the moments those of 4,000 draws, five standard errors.
"""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer.reparam import LocScaleReparam, TransformReparam

import sdeppl as sp

D = torch.float64
DRAWS = 4_000
Y = np.array([1.0, 2.0, 6.0])


def zero():
    return torch.tensor(0.0, dtype=D)


def fitted(model, **arguments):
    return sp.ScoreGuide(model, net=None, **arguments).fit_gaussian(100_000, progress=False)


def check(run, site, mean, sd, draws=DRAWS):
    """100,000 prior draws know the prior to 1 in 300; a closed form is unbiased besides."""
    x = np.asarray(run.draws[site], dtype=np.float64)
    error = 5 / math.sqrt(draws) + 0.01
    assert abs(x.mean() - mean) < error * sd
    assert abs(x.std() / sd - 1) < error


def hierarchy(y=None):
    mu = pyro.sample("mu", dist.Normal(zero(), 1.0))
    with pyro.plate("groups", 3):
        theta = pyro.sample("theta", dist.Normal(mu, 2.0))
        pyro.sample("y", dist.Normal(theta + mu, 1.0), obs=y)


def by_transform(y=None):
    """The same, theta by an affine transform."""
    mu = pyro.sample("mu", dist.Normal(zero(), 1.0))
    with pyro.plate("groups", 3):
        affine = torch.distributions.AffineTransform(mu, 2.0)
        theta = pyro.sample("theta", dist.TransformedDistribution(dist.Normal(zero(), 1.0), [affine]))
        pyro.sample("y", dist.Normal(theta + mu, 1.0), obs=y)


def given_y():
    """Mean and sd of mu given y of `hierarchy`."""
    S, k = 4 * np.ones((3, 3)) + 5 * np.eye(3), 2 * np.ones(3)
    return k @ np.linalg.solve(S, Y), math.sqrt(1 - k @ np.linalg.solve(S, k))


@pytest.mark.parametrize(
    ("model", "reparam"),
    [
        (hierarchy, LocScaleReparam(0.0)),
        (hierarchy, LocScaleReparam(0.3)),
        (by_transform, TransformReparam()),
    ],
    ids=["decentred", "in part", "transform"],
)
def test_a_reparametrised_model_has_the_closed_form_of_the_plain_one(model, reparam):
    changed = poutine.reparam(model, config={"theta": reparam})
    run = fitted(changed).condition(y=Y, backend="numpy").run(DRAWS)
    assert run.diagnosis.text.startswith("exact: Gaussian prior, linear Gaussian observation")
    check(run, "mu", *given_y())
    exact = sp.reference.exact(changed, {"y": torch.tensor(Y)}).moments["mu"]
    np.testing.assert_allclose([exact.mean, exact.sd], given_y(), rtol=1e-9)
    assert "theta" not in run.draws


def residuals(z=None):
    x = pyro.sample("x", dist.Normal(zero(), 1.0))
    value = torch.tensor(Y) - x
    pyro.sample("r", dist.Normal(0.1 * x.expand(3), 1.0).to_event(1), obs=value)
    pyro.sample("z", dist.Normal(x, 1.0), obs=z)


def given_z(z):
    precision = 1 + 3 * 1.1**2 + (z is not None)
    return (Y.sum() * 1.1 + (z or 0.0)) / precision, precision**-0.5


@pytest.mark.parametrize("z", [2.0, None])
def test_residuals_with_and_without_other_data(z):
    guide = fitted(residuals)
    assert (guide.observable, guide.moving) == (("z",), ("r",))
    data = {} if z is None else {"z": z}
    run = guide.condition(data, backend="numpy").run(DRAWS)
    assert run.diagnosis.text.startswith("exact")
    check(run, "x", *given_z(z))
    exact = sp.reference.exact(residuals, data).moments["x"]
    np.testing.assert_allclose([exact.mean, exact.sd], given_z(z), rtol=1e-9)


def test_residuals_of_data_given_to_another_site():
    """The value depends on the data of z as well as on x."""

    def model(z=None):
        x = pyro.sample("x", dist.Normal(zero(), 1.0))
        z = pyro.sample("z", dist.Normal(x, 2.0), obs=z)
        pyro.sample("r", dist.Normal(zero(), 0.5), obs=z - 3 * x)

    guide = fitted(model, kwargs={"z": torch.tensor(1.0, dtype=D)})
    precision = 1 + 1 / 4 + 9 / 0.25
    for z in (1.0, 2.0):
        mean = (z / 4 + 3 * z / 0.25) / precision
        check(guide.condition(z=z, backend="numpy").run(DRAWS), "x", mean, precision**-0.5)
        assert abs(sp.reference.exact(model, {"z": z}).moments["x"].mean - mean) < 1e-9
    many = guide.condition_many(z=np.array([1.0, 2.0]), backend="numpy").sample(DRAWS)["x"]
    for z, draws in zip((1.0, 2.0), many, strict=True):
        mean = (z / 4 + 3 * z / 0.25) / precision
        assert abs(draws.mean() - mean) < (5 / math.sqrt(DRAWS) + 0.01) * precision**-0.5


def test_many_data_sets_beside_residuals_are_solved_at_once():
    posteriors = fitted(residuals).condition_many(z=np.array([2.0, -1.0, 0.5, 4.0]), backend="numpy")
    run = posteriors.run(DRAWS)
    assert posteriors.arrays.observation is not None  # not one by one
    for z, draws in zip((2.0, -1.0, 0.5, 4.0), run.draws["x"], strict=True):
        mean, sd = given_z(z)
        assert abs(draws.mean() - mean) < (5 / math.sqrt(DRAWS) + 0.01) * sd


def test_a_delta_at_its_own_value_is_transparent():
    def model(y=None):
        x = pyro.sample("x", dist.Normal(zero(), 1.0))
        double = pyro.sample("double", dist.Delta(2 * x), obs=2 * x)
        pyro.sample("y", dist.Normal(double + x, 1.0), obs=y)

    guide = fitted(model)
    check(guide.condition(y=3.0, backend="numpy").run(DRAWS), "x", 0.9, math.sqrt(0.1))
    for call in (guide.condition, lambda data: sp.reference.hmc(model, data, progress=False)):
        with pytest.raises(sp.ModelError, match="'double' is computed from other sites"):
            call({"double": 1.0, "y": 3.0})


def test_robust_residuals_are_those_of_quadrature():
    def model():
        x = pyro.sample("x", dist.Normal(zero(), 2.0))
        pyro.sample("r", dist.StudentT(3.0, zero(), 0.5).expand([3]).to_event(1), obs=torch.tensor(Y) - x)

    grid = np.linspace(-9, 9, 20_001)
    log_p = -(grid**2) / 8 - 2 * np.log1p((Y[:, None] - grid) ** 2 / 0.75).sum(axis=0)
    weights = np.exp(log_p - log_p.max())
    weights /= weights.sum()
    mean = weights @ grid
    run = fitted(model).condition(backend="numpy").run(1_000)
    assert run.diagnosis.trusted
    size = min(1_000, run.diagnosis.ess * run.diagnosis.runs * run.diagnosis.particles)
    check(run, "x", mean, math.sqrt(weights @ grid**2 - mean**2), size)


def test_simulated_data_sets_are_refused_where_a_residual_is_part_of_the_density():
    with pytest.raises(sp.ModelError, match="'r' is observed at a value that depends on the latents"):
        sp.sbc(fitted(residuals), sets=20, draws=9, progress=False)
