"""Posteriors of a guide against the exact one: right ones are trusted, of half the noise are not. Seed 3."""

import pyro
import pyro.distributions as dist
import pytest
import torch

import sdeppl as sp

D = torch.float64
Y = torch.tensor([3.1, -0.4, 0.8], dtype=D)


def model(y=None, noise=0.6):
    mu = pyro.sample("mu", dist.Normal(torch.tensor(1.0, dtype=D), 2.0))
    x = pyro.sample("x", dist.Normal(mu + torch.zeros(3, dtype=D), 0.8).to_event(1))
    pyro.sample("y", dist.Normal(x, noise).to_event(1), obs=y)


@pytest.fixture(scope="module")
def guide():
    made = sp.ScoreGuide(model, net=None)
    sp.ScoreMatching(made, draws=200_000).fit(0, progress=False)
    return made


def test_a_run_of_a_guide_and_the_exact_posterior(guide):
    exact = sp.reference.exact(model, {"y": Y}, seed=3)
    run = guide.condition(y=Y, backend="numpy").run(600, seed=3, c=1.0)
    found = sp.compare(run, exact, classifier=False)
    assert found.trusted, found
    assert found["mu"].mean_noise == pytest.approx(600**-0.5) and found.joint is not None
    assert run.diagnosis.log_evidence == pytest.approx(exact.log_evidence, abs=0.02)
    assert not found.doubts and not found.notes


def test_half_the_noise_is_found(guide):
    exact = sp.reference.exact(model, {"y": Y}, seed=3)
    wrong = guide.condition(y=Y, backend="numpy", kwargs={"noise": 0.6 * 0.5**0.5}).sample(600, seed=3)
    found = sp.compare(wrong, exact, classifier=False)
    assert found.verdict.startswith("do not trust: ") and any("x: sd" in reason for reason in found.reasons)


def test_a_run_counts_by_its_effective_share(guide):
    class Half:
        draws = guide.condition(y=Y, backend="numpy").sample(400, seed=3)

        class diagnosis:
            ess = 0.25

    exact = sp.reference.exact(model, {"y": Y}, seed=3)
    found = sp.compare(Half(), exact, classifier=False)
    assert found["x"].mean_noise == pytest.approx(0.1) and found["x"].tests.rows == 100
