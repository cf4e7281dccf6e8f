"""Densities of a model given data with missing entries."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from scipy import stats

import sdeppl as sp
from sdeppl.tracing import ModelError, Observe

nan = math.nan
Y = torch.tensor([1.0, nan, -2.0, nan], dtype=torch.float64)
LOC = torch.tensor([0.5, 1.0, -1.0, 3.0], dtype=torch.float64)


def site_density(model, data, name="y"):
    trace = poutine.trace(Observe(data)(model)).get_trace()
    assert trace.nodes[name]["is_observed"]
    trace.compute_log_prob()
    return float(trace.nodes[name]["log_prob_sum"])


@pytest.mark.parametrize("form", ["event", "plate"])
@pytest.mark.parametrize(
    ("family", "reference"),
    [
        (lambda: dist.Normal(LOC, 0.7), lambda m: stats.norm(m, 0.7)),
        (lambda: dist.StudentT(3.0, LOC, 0.7), lambda m: stats.t(3, m, 0.7)),
        (lambda: dist.Cauchy(LOC, 0.7), lambda m: stats.cauchy(m, 0.7)),
    ],
    ids=["normal", "studentt", "cauchy"],
)
def test_independent_components(form, family, reference):
    def model():
        if form == "event":
            return pyro.sample("y", family().to_event(1))
        with pyro.plate("data", 4):
            return pyro.sample("y", family())

    expected = sum(reference(float(LOC[i])).logpdf(float(Y[i])) for i in (0, 2))
    assert site_density(model, {"y": Y}) == pytest.approx(expected, rel=1e-12)
    complete = torch.tensor([1.0, 0.0, -2.0, 4.0]).double()
    expected = sum(reference(float(m)).logpdf(float(v)) for m, v in zip(LOC, complete, strict=True))
    assert site_density(model, {"y": complete}) == pytest.approx(expected, rel=1e-12)


def test_a_transformed_distribution_keeps_its_own_density():
    def model():
        pyro.sample("y", dist.LogNormal(LOC, 0.7).to_event(1))

    data = torch.tensor([1.5, nan, 0.3, nan]).double()
    expected = sum(stats.lognorm(0.7, scale=math.exp(LOC[i])).logpdf(float(data[i])) for i in (0, 2))
    assert site_density(model, {"y": data}) == pytest.approx(expected, rel=1e-12)


def test_discrete_components():
    def model():
        pyro.sample("y", dist.Bernoulli(torch.tensor([0.2, 0.4, 0.9])).to_event(1))

    found = site_density(model, {"y": torch.tensor([1.0, nan, 0.0])})
    assert found == pytest.approx(math.log(0.2) + math.log(0.1), rel=1e-5)


def test_multivariate_normal_is_marginalised():
    root = torch.tensor([[1.0, 0, 0, 0], [0.5, 2, 0, 0], [-0.3, 0.7, 1.5, 0], [1, 1, 1, 1]]).double()
    C = root @ root.T

    def model():
        pyro.sample("y", dist.MultivariateNormal(LOC, C))

    kept = [0, 2]
    reference = stats.multivariate_normal(LOC[kept].numpy(), C[kept][:, kept].numpy())
    assert site_density(model, {"y": Y}) == pytest.approx(reference.logpdf(Y[kept].numpy()), rel=1e-12)


def test_a_low_rank_normal_is_marginalised():
    factor, diagonal = (
        torch.tensor([[1.0], [0.5], [-0.3], [2.0]]).double(),
        torch.tensor([0.3, 0.7, 1.1, 0.2]),
    )
    C = factor @ factor.T + diagonal.double().diag()

    def model():
        pyro.sample("y", dist.LowRankMultivariateNormal(LOC, factor, diagonal.double()))

    kept = [0, 2]
    reference = stats.multivariate_normal(LOC[kept].numpy(), C[kept][:, kept].numpy())
    assert site_density(model, {"y": Y}) == pytest.approx(reference.logpdf(Y[kept].numpy()), rel=1e-12)


def test_whole_events_are_left_out():
    def model():
        with pyro.plate("three", 3):
            scale, df = torch.eye(4).double(), torch.tensor(3.0).double()
            pyro.sample("y", dist.MultivariateStudentT(df, LOC, scale))

    data = torch.stack([Y.nan_to_num(0.5), torch.full((4,), nan).double(), torch.zeros(4).double()])
    alone = stats.multivariate_t(LOC.numpy(), np.eye(4), df=3)
    expected = alone.logpdf(data[0].numpy()) + alone.logpdf(data[2].numpy())
    assert site_density(model, {"y": data}) == pytest.approx(expected, rel=1e-12)


def test_the_models_own_masks_stay():
    own = torch.tensor([True, True, False, True])

    def model():
        pyro.sample("y", dist.Normal(LOC, 0.7).mask(own).to_event(1))

    assert site_density(model, {"y": Y}) == pytest.approx(stats.norm(0.5, 0.7).logpdf(1.0), rel=1e-12)


def test_rows_of_a_multivariate_normal_with_other_gaps():
    """Each row adds the marginal density of what was seen in it; a masked one adds nothing."""
    loc = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    root = torch.tensor([[1.0, 0, 0], [0.8, 0.6, 0], [-0.5, 1.0, 2.0]], dtype=torch.float64)
    covariance = (root @ root.mT).numpy()
    rows = torch.tensor(
        [[1.0, nan, 0.3], [nan, nan, nan], [0.1, 0.2, 0.3], [nan, -2.0, nan], [9.0, nan, 9.0]]
    ).double()
    kept = torch.tensor([True, True, True, True, False])

    def model():
        with pyro.plate("rows", 5), poutine.mask(mask=kept):
            pyro.sample("y", dist.MultivariateNormal(loc, scale_tril=root))
        pyro.sample("own", dist.MultivariateNormal(loc, scale_tril=root).expand([5]).mask(kept).to_event(1))

    seen = [~torch.isnan(row).numpy() for row in rows[:4]]
    expected = sum(
        stats.multivariate_normal(loc.numpy()[k], covariance[k][:, k]).logpdf(row.numpy()[k])
        for row, k in zip(rows, seen, strict=False)
        if k.any()
    )
    assert site_density(model, {"y": rows}) == pytest.approx(expected, rel=1e-12)
    assert site_density(model, {"own": rows}, "own") == pytest.approx(expected, rel=1e-12)


def test_gradients_are_those_of_the_observed_part():
    loc = LOC.clone().requires_grad_()

    def model():
        pyro.sample("y", dist.Cauchy(loc, 0.7).to_event(1))

    trace = poutine.trace(Observe({"y": Y})(model)).get_trace()
    slope = torch.autograd.grad(trace.log_prob_sum(), loc)[0]
    r = (Y - LOC) / 0.7
    expected = torch.where(torch.isnan(Y), 0.0, 2 * r / (1 + r * r) / 0.7)
    torch.testing.assert_close(slope, expected.double(), rtol=1e-12, atol=0)


def test_diffusion_adds_nothing():
    def model():
        x = pyro.sample("x", dist.Normal(torch.tensor(1.0).double(), 2.0))
        pyro.sample("x_t", sp.Diffusion(sp.VPSDE(), x, [0.2, 1.0]))
        pyro.sample("y", dist.Normal(x, 0.5))

    conditioned = poutine.condition(Observe({"y": 1.4})(model), {"x": torch.tensor(0.3).double()})
    expected = stats.norm(1, 2).logpdf(0.3) + stats.norm(0.3, 0.5).logpdf(1.4)
    assert float(poutine.trace(conditioned).get_trace().log_prob_sum()) == pytest.approx(expected, rel=1e-6)


def test_errors_name_the_site():
    def model():
        with pyro.plate("pair", 2):
            pyro.sample("y", dist.MultivariateNormal(torch.zeros(2), torch.eye(2)))
        pyro.sample("p", dist.Dirichlet(torch.ones(2)))

    with pytest.raises(ModelError, match=r"'y': the data have shape \(3,\), the model \(2, 2\)"):
        Observe({"y": torch.zeros(3)})(model)()
    with pytest.raises(ModelError, match="'p' has missing entries, but Dirichlet"):
        Observe({"p": torch.tensor([0.5, nan])})(model)()


def test_a_gap_is_not_drawn_where_what_was_seen_can_stand_in_for_it():
    rate = torch.tensor([0.5, 2.0, 7.0], dtype=torch.float64, requires_grad=True)
    y = torch.tensor([0.3, math.nan, 1.7], dtype=torch.float64)

    class Undrawn(dist.Gamma):
        def rsample(self, sample_shape=()):
            raise AssertionError("a gap was drawn")

    def model():
        pyro.sample("y", Undrawn(torch.tensor(1.5, dtype=torch.float64), rate).to_event(1))

    log_p = poutine.trace(Observe({"y": y})(model)).get_trace().log_prob_sum()
    slope = torch.autograd.grad(log_p, rate)[0]
    seen = [stats.gamma.logpdf(v, 1.5, scale=1 / r) for v, r in ((0.3, 0.5), (1.7, 7.0))]
    assert log_p.item() == pytest.approx(sum(seen), rel=1e-12)
    assert slope.tolist() == pytest.approx([1.5 / 0.5 - 0.3, 0.0, 1.5 / 7 - 1.7], rel=1e-12)
