"""'Exact' and 'trusted' of a posterior need a prior that draws held out of the fit have looked at."""

import pickle
from dataclasses import replace

import pyro
import pyro.distributions as dist
import pytest
import torch

import sdeppl as sp

D = torch.float64
DRAWS = 100_000


def T(value):
    return torch.tensor(value, dtype=D)


def gaussian(y=None):
    x = pyro.sample("x", dist.MultivariateNormal(T([1.0, -300.0]), T([[4.0, 90.0], [90.0, 2500.0]])))
    pyro.sample("y", dist.Normal(x[..., 0], 1.0), obs=y)


def walk(y=None):
    """A Gaussian path of 60 numbers."""
    steps = pyro.sample("steps", dist.Normal(torch.zeros(60, dtype=D), 0.3).to_event(1))
    path = pyro.deterministic("path", steps.cumsum(-1))
    pyro.sample("y", dist.Normal(path[..., 29], 1.0), obs=y)


def bounded(y=None):
    """Exactly normal once it is unconstrained."""
    a = pyro.sample("a", dist.Uniform(T(-2.0), 5.0))
    b = pyro.sample("b", dist.LogNormal(T(1.0), 0.7))
    pyro.sample("y", dist.Normal(a + b.log(), 1.0), obs=y)


def gamma(y=None):
    x = pyro.sample("x", dist.Gamma(T(2.0), 0.1))
    pyro.sample("y", dist.Normal(x.log(), 1.0), obs=y)


def two_modes(y=None):
    parts = dist.Normal(T([-2.0, 2.0]), 0.5)
    x = pyro.sample("x", dist.MixtureSameFamily(dist.Categorical(T([0.3, 0.7])), parts))
    pyro.sample("y", dist.Normal(x, 1.0), obs=y)


def scale_and_children(y=None):
    scale = pyro.sample("scale", dist.LogNormal(T(0.0), 1.0))
    x = pyro.sample("x", dist.Normal(torch.zeros(6, dtype=D), scale.unsqueeze(-1)).to_event(1))
    pyro.sample("y", dist.Normal(x[..., 0], 1.0), obs=y)


def chaos(y=None):
    """Ten states of Lorenz 96 with 12 variables, 120 numbers, from a simulator: no density."""
    x = pyro.sample("start", dist.Normal(torch.full((12,), 2.0, dtype=D), 1.0).to_event(1))
    states = []
    for step in range(200):
        drift = (torch.roll(x, -1, -1) - torch.roll(x, 2, -1)) * torch.roll(x, 1, -1) - x + 8
        x = x + 0.01 * drift
        if step % 20 == 19:
            states.append(x)
    path = pyro.sample("path", dist.Normal(torch.stack(states, dim=-2), 0.1).to_event(2))
    pyro.sample("y", dist.Normal(path[..., 0], 1.0).to_event(1), obs=y)


def alone(model, draws=DRAWS, **arguments):
    """The Gaussian part alone."""
    guide = sp.ScoreGuide(model, net=None, **arguments)
    sp.ScoreMatching(guide, draws=draws).fit(steps=0, progress=False)
    return guide


@pytest.mark.parametrize("model", [gaussian, walk, bounded])
def test_a_gaussian_prior_stays_trusted_and_exact_for_what_was_fitted(model, recwarn):
    run = alone(model).condition(y=0.5).run(200)
    assert run.diagnosis.trusted and run.state == "trusted" and run.diagnosis.fit.good
    assert "the fitted Gaussian, which 16384 held-out draws do not tell from the prior" in run.diagnosis.text
    if model is not bounded:
        assert (
            run.diagnosis.text.startswith("exact: ") and "exact for the fitted Gaussian" in run.diagnosis.text
        )
    assert not [w for w in recwarn if issubclass(w.category, sp.UntrustedWarning)]


NOT_GAUSSIAN = {"gamma": gamma, "two modes": two_modes, "a scale and its children": scale_and_children}


@pytest.mark.parametrize(
    "case", ["gamma", "two modes", pytest.param("a scale and its children", marks=pytest.mark.slow)]
)
def test_a_prior_that_is_not_gaussian_is_not_trusted_without_a_network(case):
    guide = sp.ScoreGuide(NOT_GAUSSIAN[case], net=None).fit_gaussian(DRAWS, progress=False)
    assert guide.fit_check.density
    assert guide.fit_check.state == "do not trust"
    assert "the fitted Gaussian, which is off the prior by" in guide.fit_check.verdict
    known = guide.condition(y=0.5).run(50).diagnosis  # by the model's own density
    assert known.prior == "known" and known.trusted
    with pytest.warns(sp.UntrustedWarning, match="nats of what is not Gaussian"):
        run = guide.condition(y=0.5, correction=sp.TwistedSMC()).run(50)
    assert not run.diagnosis.trusted and run.state == "do not trust"
    assert (
        "nats of what is not Gaussian" in run.diagnosis.text
        and "give the guide a network" in run.diagnosis.text
    )
    assert "train longer" not in run.diagnosis.text
    many = guide.condition_many(y=[0.5, -0.2]).run(50)  # as one would, by the model's own density
    assert many.trusted and {found.prior for found in many.diagnoses} == {"known"}
    with pytest.warns(sp.UntrustedWarning):
        many = guide.condition_many(y=[0.5, -0.2], correction=sp.TwistedSMC()).run(50)
    assert not many.trusted and many.state == "do not trust" and "nats" in many.text


def test_a_chaotic_path_is_not_trusted_and_nothing_calls_it_exact_alone():
    with pytest.warns(
        sp.UntrustedWarning, match=r"do not trust: the fitted Gaussian, which is off the prior by"
    ):
        guide = alone(chaos, 20_000, latents=["path"])
    posterior = guide.condition(y=torch.zeros(10))
    with pytest.warns(sp.UntrustedWarning, match="do not trust: the fitted Gaussian"):
        posterior.sample(50)
    with pytest.warns(sp.UntrustedWarning, match="their prior is not the model's"):
        run = posterior.run(50)
    assert not run.diagnosis.trusted and run.diagnosis.fit.departure > 1.0
    assert "do not trust" in run.diagnosis.text and "exact for the fitted Gaussian, which is off" in str(run)
    assert run.diagnosis.fit.site == "path" and "train longer" not in guide.fit_check.verdict


@pytest.mark.filterwarnings("ignore::sdeppl.UntrustedWarning")
def test_too_few_draws_are_said_and_how_many_are_enough():
    few = alone(walk, 500)
    assert few.fit_check.state == "do not trust" and "nats of moments from 500 draws" in few.fit_check.verdict
    assert not few.condition(y=0.5, likelihood="exact").run(50).diagnosis.trusted
    enough = int(few.fit_check.verdict.split("draws=")[1].rstrip(")"))
    assert alone(walk, enough).fit_check.good
    some = alone(walk, 6_000)  # the posterior is off by 60²/4/6000 nats, each number by .07
    run = some.condition(y=0.5, likelihood="exact").run(50)
    assert run.state == "cannot tell" and not run.diagnosis.trusted and "cannot tell" in run.diagnosis.text


@pytest.mark.filterwarnings("ignore::sdeppl.UntrustedWarning")
def test_a_network_is_checked_itself_and_its_advice_is_its_own():
    guide = sp.ScoreGuide(two_modes)
    training = sp.ScoreMatching(guide, draws=20_000)
    training.fit(steps=0, progress=False)
    assert guide.fit_check.network == "untrained" and "train the guide's network" in guide.fit_check.verdict
    before = guide.fit_check
    training.fit(steps=100, progress=False)
    short = guide.fit_check
    assert short.network == "used" and "train longer, or a wider network" in short.verdict
    assert 0 < short.departure < before.departure and not short.good
    run = guide.condition(y=0.5, correction=sp.TwistedSMC()).run(50)
    assert "for the learned prior, which is off" in run.diagnosis.text and not run.diagnosis.trusted
    training.step()  # by hand, after which the check is made anew
    assert guide.checked is None and guide.fit_check != short


@pytest.mark.filterwarnings("ignore::sdeppl.UntrustedWarning")
def test_a_check_is_saved_loaded_pickled_and_in_checkpoints(tmp_path):
    guide = alone(gamma, 5_000)
    guide.save(tmp_path / "guide")
    loaded = sp.ScoreGuide.load(tmp_path / "guide", gamma, net=None)
    assert loaded.checked == guide.fit_check and pickle.loads(pickle.dumps(loaded.checked)) == guide.fit_check
    posterior = guide.condition(y=0.5, likelihood="exact")
    posterior.save(tmp_path / "posterior")
    found = sp.load_posterior(tmp_path / "posterior", "numpy").run(50).diagnosis
    assert found.fit == guide.fit_check and not found.trusted
    small = sp.ScoreGuide(two_modes)
    path = tmp_path / "checkpoint"
    sp.ScoreMatching(small, draws=3_000, batch=32).fit(steps=4, progress=False, checkpoint=path, every=2)
    again = sp.ScoreGuide(two_modes)
    training = sp.ScoreMatching(again, draws=3_000, batch=32)
    training.fit(steps=4, progress=False, checkpoint=path)
    assert again.fit_check == small.fit_check


def test_an_exact_denoiser_given_by_hand_is_the_users_own_claim():
    prior = sp.GaussianDenoiser(sp.VPSDE(), T([0.0]), T([[2.0]]))
    run = sp.Posterior(prior, sp.LinearGaussian(T([[1.0]]), T([0.5]), T([1.0]))).run(50)
    assert run.diagnosis.trusted and run.diagnosis.fit is None and "fitted" not in run.diagnosis.text


@pytest.mark.filterwarnings("ignore::sdeppl.UntrustedWarning")
def test_draws_of_a_known_density_do_not_need_it():
    guide = alone(gamma, 5_000)
    exact = guide.condition(y=0.5, likelihood="exact").arrays.run(50).diagnosis
    assert exact.trusted and not exact.with_fit(guide.fit_check).trusted
    known = replace(exact, prior="known")
    assert known.with_fit(guide.fit_check) == known


def test_auto_takes_the_known_density_where_the_fit_departs_from_it():
    """ln x given y = .5 for x ~ Gamma(2, .1), by quadrature; 5 standard errors of 400 effective draws."""
    run = alone(gamma, 20_000).condition(y=0.5).run(1_000)
    z = torch.linspace(-4.0, 8.0, 20_001, dtype=D)
    weight = (2 * z - 0.1 * z.exp() - 0.5 * (z - 0.5) ** 2).exp()
    mean = float((weight * z).sum() / weight.sum())
    sd = float((weight * (z - mean) ** 2).sum() / weight.sum()) ** 0.5
    assert run.diagnosis.prior == "known" and run.diagnosis.trusted
    assert abs(float(run.draws["x"].log().mean()) - mean) < 5 * sd / 20


class Simulated(dist.TorchDistribution):
    """The prior of `two_modes`, without its density."""

    arg_constraints, support, has_rsample = {}, dist.constraints.real, False

    def __init__(self):
        super().__init__(validate_args=False)

    def sample(self, sample_shape=()):
        low = torch.rand(sample_shape, dtype=D) < 0.3
        return torch.where(low, -2.0, 2.0) + 0.5 * torch.randn(sample_shape, dtype=D)


@pytest.mark.filterwarnings("ignore::sdeppl.UntrustedWarning")
def test_auto_stays_with_even_weights_where_no_correction_can_mend_the_prior():
    """A simulator's prior, half learned: larger runs and tempering would follow the same network."""

    def model(y=None):
        pyro.sample("y", dist.Normal(pyro.sample("x", Simulated()), 1.0), obs=y)

    guide = sp.ScoreGuide(model)
    sp.ScoreMatching(guide, draws=20_000).fit(steps=100, progress=False)
    found = guide.condition(y=0.5).run(200).diagnosis
    assert not guide.fit_check.good and not guide.fit_check.density and not found.trusted
    assert found.correction == "twisted SMC" and found.particles == sp.TwistedSMC().particles
    assert found.prior == "learned" and "was not to be trusted" not in found.why


@pytest.mark.filterwarnings("ignore::sdeppl.UntrustedWarning")
def test_a_report_is_not_trusted_beside_a_check_that_fails_or_was_not_made(tmp_path):
    posterior = alone(gamma, 20_000).condition(y=0.5, likelihood="exact")
    score = type("Score", (), {"verdict": "nothing speaks against the score", "good": True})()
    page = sp.report(posterior, tmp_path / "page.html", score=score, draws=200)
    assert page.state == "do not trust" and "not Gaussian" in page.verdict
    unchecked = replace(alone(gaussian, 20_000).condition(y=0.5), fit=None)
    page = sp.report(unchecked, tmp_path / "page.html", score=score, draws=200)
    assert page.state == "cannot tell" and "no draws held out of its fit have looked at it" in page.verdict
    again = replace(unchecked, fit=alone(gaussian, 20_000).fit_check)
    assert sp.report(again, tmp_path / "page.html", score=score, draws=200).state == "trusted"
