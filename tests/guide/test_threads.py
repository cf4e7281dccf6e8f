"""Guides and posteriors in several threads: the serial draws, bit for bit, and a sound process afterwards."""

import threading
import warnings

import pyro
import pyro.distributions as dist
import pytest
import sent_models
import torch
from pyro.poutine.runtime import _PYRO_STACK
from sent_models import DATA, D, number
from together import in_threads
from torch.distributions import dirichlet

import sdeppl as sp
from sdeppl.backend import resolve
from sdeppl.backend.sharing import SHARED, cached_property, unsaid, warn

pytestmark = pytest.mark.filterwarnings("ignore::sdeppl.UntrustedWarning")


@pytest.fixture(scope="module")
def guides():
    found = {model: sp.ScoreGuide(model) for model in DATA}
    for guide in found.values():
        guide.fit_gaussian(2_000, progress=False)
    return found


@pytest.fixture(autouse=True)
def sound():
    """Nothing shared is left changed: handlers, validation, generator, Dirichlet, filters, the lock."""
    state, plain, filters = torch.get_rng_state(), dirichlet._Dirichlet, list(warnings.filters)
    yield
    assert not _PYRO_STACK
    assert dist.Normal(0.0, 1.0)._validate_args
    assert torch.equal(torch.get_rng_state(), state)
    assert dirichlet._Dirichlet is plain
    assert warnings.filters == filters
    assert in_threads([lambda: SHARED.acquire(timeout=10) and SHARED.release()], 20) == [None]


def draws(posterior, count=20):
    return posterior.run(count).draws


def same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


def test_posteriors_of_all_kinds_sample_in_threads(guides):
    wanted = [draws(guide.condition(y=DATA[model], steps=20)) for model, guide in guides.items()]
    posteriors = [guide.condition(y=DATA[model], steps=20) for model, guide in guides.items()]
    found = in_threads([lambda p=p: draws(p) for p in posteriors])
    for one, other in zip(found, wanted, strict=True):
        same(one, other)


def test_one_posterior_is_sampled_in_threads(guides):
    posterior = guides[sent_models.bent].condition(y=DATA[sent_models.bent], steps=20)
    seeds = range(3)
    wanted = [posterior.sample(20, seed=seed) for seed in seeds]
    fresh = guides[sent_models.bent].condition(y=DATA[sent_models.bent], steps=20)
    for one, other in zip(
        in_threads([lambda s=s: fresh.sample(20, seed=s) for s in seeds]), wanted, strict=True
    ):
        same(one, other)


def test_guides_are_fitted_and_conditioned_in_threads(guides):
    def answer(model):
        guide = sp.ScoreGuide(model).fit_gaussian(2_000, progress=False)
        return draws(guide.condition(y=DATA[model], steps=20))

    wanted = [draws(guide.condition(y=DATA[model], steps=20)) for model, guide in guides.items()]
    for one, other in zip(in_threads([lambda m=m: answer(m) for m in DATA]), wanted, strict=True):
        same(one, other)


def test_networks_train_in_threads():
    def weights(seed):
        training = sp.ScoreMatching(sp.ScoreGuide(sent_models.bent), batch=64, draws=2_000, seed=seed)
        training.fit(8, progress=False)
        return dict(training.guide.net.state_dict())

    wanted = [weights(seed) for seed in (0, 1)]
    for one, other in zip(in_threads([lambda s=s: weights(s) for s in (0, 1)]), wanted, strict=True):
        same(one, other)


@pytest.mark.filterwarnings("ignore::sdeppl.reference.result.ChainWarning")
def test_references_run_beside_posteriors(guides):
    affine, bent, shares = sent_models.affine, sent_models.bent, sent_models.shares
    settings = {"draws": 10, "warmup": 20, "progress": False}
    jobs = [
        lambda: sp.reference.hmc(bent, {"y": number(DATA[bent])}, chains=8, **settings).draws,
        lambda: sp.reference.nuts(bent, {"y": number(DATA[bent])}, chains=1, **settings).draws,
        lambda: sp.reference.exact(affine, {"y": number(DATA[affine])}, draws=10).draws,
        lambda: draws(guides[shares].condition(y=DATA[shares], steps=20)),
    ]
    wanted = [job() for job in jobs]
    for one, other in zip(in_threads(jobs), wanted, strict=True):
        same(one, other)


def test_an_error_in_one_thread_is_its_own(guides):
    def broken(y=None):
        a = pyro.sample("a", dist.LogNormal(number(0.0), 0.7))
        pyro.sample("b", dist.Normal(number(0.0), 1.0))
        if y is not None or sent:
            raise RuntimeError("the simulator is down")
        pyro.sample("y", dist.Normal(a * torch.ones(5, dtype=D), 0.2).to_event(1), obs=y)

    sent = False
    guide = sp.ScoreGuide(broken).fit_gaussian(2_000, progress=False)
    sent = True
    whole = guides[sent_models.bent]
    wanted = draws(whole.condition(y=DATA[sent_models.bent], steps=20))
    jobs = [
        lambda: guide.condition(y=DATA[sent_models.bent], steps=20),
        lambda: draws(whole.condition(y=DATA[sent_models.bent], steps=20)),
        lambda: guide.condition(y=DATA[sent_models.bent], steps=20),
    ]
    first, found, third = in_threads(jobs)
    assert "the simulator is down" in str(first) and "the simulator is down" in str(third)
    same(found, wanted)
    same(draws(whole.condition(y=DATA[sent_models.bent], steps=20)), wanted)


def test_a_pyro_guide_is_called_in_threads_beside_condition(guides):
    bent = sent_models.bent
    wanted = draws(guides[bent].condition(y=DATA[bent], steps=20))
    found = in_threads(
        [
            lambda: draws(guides[bent].condition(y=DATA[bent], steps=20)),
            lambda: sp.ScoreGuide(bent).fit_gaussian(2_000, progress=False)(y=number(DATA[bent])),
        ]
    )
    same(found[0], wanted)
    assert set(found[1]) == {"a", "b"}
    torch.manual_seed(0)  # a Pyro guide draws its seed from the global generator, as it says


def test_a_thread_that_does_not_run_a_model_has_torchs_own_dirichlet():
    from sdeppl.tracing.randomness import BatchedRandomness

    def slope():
        concentration = number([2.0, 3.0]).requires_grad_()
        dist.Dirichlet(concentration).rsample().square().sum().backward()
        return concentration.grad

    wanted = slope()
    torch.manual_seed(0)
    with BatchedRandomness():
        (found,) = in_threads([slope])
    assert torch.equal(found, wanted)
    torch.manual_seed(0)


def test_forward_derivatives_in_threads():
    """torch counts how deep they are within each other in one number for all threads."""
    backend = resolve("torch")
    x = torch.linspace(-1.0, 1.0, 400, dtype=D).reshape(20, 20)

    def slopes(power):
        def f(z):
            for _ in range(5):
                z = torch.sin(z) ** power + z
            return z

        return torch.stack([backend.adapter.jvp(f, x + k, torch.ones_like(x)) for k in range(30)])

    wanted = [slopes(p) for p in (1, 2, 3)]
    found = in_threads([lambda p=p: slopes(p) for p in (1, 2, 3)])
    for one, other in zip(found, wanted, strict=True):
        assert isinstance(one, torch.Tensor) and torch.equal(one, other)


def test_what_is_unsaid_in_one_thread_is_said_in_another():
    inside = threading.Barrier(2)

    def silent():
        with unsaid(UserWarning):
            inside.wait(10)
            warn("left out", UserWarning, 1)
            inside.wait(10)

    def loud():
        inside.wait(10)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            warn("said", UserWarning, 1)
            inside.wait(10)
        return [str(one.message) for one in said]

    assert in_threads([silent, loud])[1] == ["said"]


def test_what_is_computed_once_holds_no_lock_that_a_model_waits_for():
    """`functools.cached_property` of Python 3.11 has one for all instances: this would end in a deadlock."""

    class Slow:
        def __init__(self, waits):
            self.waits = waits

        @cached_property
        def value(self):
            if self.waits:
                inside.wait(10)
            with SHARED:  # as a pilot solve takes it that evaluates a model
                return 2

    inside, slow = threading.Barrier(2), Slow(True)

    def holder():
        with SHARED:
            inside.wait(10)
            return Slow(False).value

    assert in_threads([lambda: slow.value, holder], 20) == [2, 2]
    assert vars(slow)["value"] == 2
