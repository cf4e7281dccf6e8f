"""What is pickled comes back and gives the same draws; what cannot be sent says so by name."""

import builtins
import pickle
import re
import subprocess
import sys

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import sent_models
import torch
from sent_models import DATA, D, number
from torch.distributions import constraints

import sdeppl as sp
from sdeppl.backend import backend_of, resolve
from sdeppl.backend.sharing import Sent

pytestmark = pytest.mark.filterwarnings("ignore::sdeppl.UntrustedWarning")


def again(thing):
    return pickle.loads(pickle.dumps(thing))


def same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert np.array_equal(np.asarray(one[name]), np.asarray(other[name])), name


@pytest.fixture(scope="module")
def guides():
    return {model: sp.ScoreGuide(model).fit_gaussian(2_000, progress=False) for model in DATA}


@pytest.mark.parametrize("model", DATA, ids=lambda model: model.__name__)
def test_a_posterior_of_each_kind_of_site(guides, model):
    posterior = guides[model].condition(y=DATA[model], steps=20)
    found = again(posterior)  # before it has solved anything
    same(found.sample(10), posterior.sample(10))
    same(again(posterior).sample(10, seed=3), posterior.sample(10, seed=3))  # after


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_backends(guides, backend):
    posterior = guides[sent_models.bent].condition(y=DATA[sent_models.bent], steps=20, backend=backend)
    same(again(posterior).sample(10), posterior.sample(10))


def test_a_backend_is_the_same_again(backend):
    assert again(backend) == backend
    whole = backend_of(backend.xp.arange(3, device=backend.device))
    assert again(whole) == whole


def test_a_backend_that_is_missing_where_it_is_read_says_so(monkeypatch):
    from sdeppl.backend.adapters import ADAPTERS

    def missing(device):
        raise sp.BackendUnavailable("backend 'numpy' is away")

    bytes_ = pickle.dumps(resolve("numpy"))
    monkeypatch.setattr(ADAPTERS["numpy"], "open", missing)
    with pytest.raises(sp.BackendUnavailable, match="is away"):
        pickle.loads(bytes_)


def test_a_guide_that_was_called_and_conditioned(guides):
    guide = guides[sent_models.shares]
    guide(y=number(DATA[sent_models.shares]))  # keeps draws for the next call
    found = again(guide)
    assert found.model is guide.model
    y = DATA[sent_models.shares]
    same(found.condition(y=y, steps=20).sample(10), guide.condition(y=y, steps=20).sample(10))
    # refitted, the simplex is still taken for what it is
    same(dict(enumerate(found.fit_gaussian(2_000, progress=False).gaussian.location)),
         dict(enumerate(guide.gaussian.location)))  # fmt: skip
    assert not found.tails


def test_real_latents_stay_plain(guides):
    (site,) = again(guides[sent_models.affine]).space.sites
    assert site.is_real and site.support is not constraints.real


def test_a_network_and_its_training(tmp_path):
    training = sp.ScoreMatching(sp.ScoreGuide(sent_models.bent), batch=64, draws=2_000)
    training.fit(3, progress=False)
    training.guide.use_net = True
    guide = again(training.guide)
    y = DATA[sent_models.bent]
    settings = {"steps": 20, "correction": None, "likelihood": "tweedie"}
    with pytest.warns(sp.ApproximateWarning):
        one, other = guide.condition(y=y, **settings), training.guide.condition(y=y, **settings)
    same(one.sample(10), other.sample(10))
    same(again(other).sample(10), other.sample(10))


@pytest.mark.parametrize("model", [sent_models.affine, sent_models.bent, sent_models.shares])
def test_posteriors_of_many_data_sets(guides, model):
    y = torch.stack([number(DATA[model]), number(DATA[model]) + 0.1])
    posteriors = guides[model].condition_many(y=y, steps=20)
    found, wanted = again(posteriors).run(10), posteriors.run(10)
    same(found.draws, wanted.draws)
    assert repr(found.diagnoses) == repr(wanted.diagnoses)


def test_runs_and_references(guides):
    y = {"y": number(DATA[sent_models.bent])}
    run = guides[sent_models.bent].condition(y, steps=20).run(10)
    same(again(run).draws, run.draws)
    assert repr(again(run).diagnosis) == repr(run.diagnosis)
    exact = sp.reference.exact(sent_models.affine, {"y": number(DATA[sent_models.affine])}, draws=10)
    same(again(exact).draws, exact.draws)
    assert again(exact).log_evidence == exact.log_evidence and again(exact).verdict == exact.verdict


def test_arrays_without_a_model():
    prior = sp.GaussianDenoiser(sp.VPSDE(), np.zeros(2), np.array([[2.0, 0.3], [0.3, 1.0]]))
    observation = sp.LinearGaussian(np.array([[1.0, 2.0]]), np.array([0.5]), np.array([0.1]))
    posterior = sp.Posterior(prior, observation)
    assert np.array_equal(again(posterior).sample(5), posterior.sample(5))
    many = sp.Posteriors(prior, observation, np.array([[0.5], [1.0]]))
    assert np.array_equal(again(many).sample(5), many.sample(5))


def outer():
    def inner(y=None):
        return sent_models.bent(y)

    return inner


@pytest.mark.parametrize("model", [lambda y=None: sent_models.bent(y), outer()], ids=["lambda", "inner"])
def test_a_model_without_a_name_goes_whole_or_says_so(guides, model, monkeypatch):
    guide = sp.ScoreGuide(model).fit_gaussian(2_000, progress=False)
    posterior = guide.condition(y=DATA[sent_models.bent], steps=20)
    pytest.importorskip("cloudpickle")
    same(again(posterior).sample(10), posterior.sample(10))
    without_cloudpickle(monkeypatch)
    said = rf"the model '.*(<lambda>|inner)' of {re.escape(__name__)} .*with def"
    with pytest.raises(pickle.PicklingError, match=said):
        pickle.dumps(posterior)


def test_an_affine_posterior_needs_no_model():
    guide = sp.ScoreGuide(lambda y=None: sent_models.affine(y)).fit_gaussian(2_000, progress=False)
    posterior = guide.condition(y=DATA[sent_models.affine])
    assert b"lambda" not in pickle.dumps(posterior)
    same(again(posterior).sample(10), posterior.sample(10))


def test_a_model_under_handlers(guides):
    model = pyro.poutine.condition(sent_models.bent, data={})
    guide = sp.ScoreGuide(model).fit_gaussian(2_000, progress=False)
    y = DATA[sent_models.bent]
    posterior = guide.condition(y=y, steps=20)
    same(again(posterior).sample(10), posterior.sample(10))


def test_a_networks_factory_without_a_name_says_so(monkeypatch):
    guide = sp.ScoreGuide(sent_models.affine, net=lambda dim: sp.ResidualMLP(dim))
    without_cloudpickle(monkeypatch)
    with pytest.raises(pickle.PicklingError, match="the network's factory"):
        pickle.dumps(guide)


def test_a_model_of_another_program_says_where_it_was(tmp_path, monkeypatch):
    script = tmp_path / "writes.py"
    script.write_text(
        "import builtins, pickle, sys\n"
        "from sdeppl.backend.sharing import Sent\n"
        "sys.modules['cloudpickle'] = None\n"
        "def my_model(): pass\n"
        "sys.stdout.buffer.write(pickle.dumps(Sent(my_model, 'model')))\n"
    )
    made = subprocess.run([sys.executable, script], capture_output=True, check=True, timeout=60).stdout
    with pytest.raises(pickle.UnpicklingError, match=r"the model 'my_model' was defined in __main__.*a file"):
        pickle.loads(made)


def test_what_pickle_cannot_take_says_why(monkeypatch):
    without_cloudpickle(monkeypatch)

    class Model:
        def __call__(self):
            pyro.sample("x", dist.Normal(number(0.0), 1.0))

    with pytest.raises(pickle.PicklingError, match=r"the model .*Model object"):
        pickle.dumps(Sent(Model(), "model"))
    assert again(Sent(sent_models.bent, "model")) is sent_models.bent
    assert again(Sent(None, "network")) is None
    assert D is torch.float64


def without_cloudpickle(monkeypatch):
    plain = builtins.__import__

    def missing(name, *rest, **named):
        if name == "cloudpickle":
            raise ImportError("No module named 'cloudpickle'")
        return plain(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", missing)
