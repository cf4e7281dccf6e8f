"""Affine sites of many numbers are operators: the same observation as with all entries of H."""

import importlib

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from checks import array, assert_array, host
from observed_models import PART, X, event, log_prob
from site_models import ALL, D, nan, read

import sdeppl as sp
from sdeppl import linalg as la
from sdeppl.query import observation_of
from sdeppl.tracing import find_sites, prior_draws, probing, read_sites

pytestmark = pytest.mark.filterwarnings("ignore::sdeppl.tracing.SlowDrawsWarning")
AFFINE = [name for name in ALL if name.split(":")[0] in ("gaussian", "family")]
READING = importlib.import_module("sdeppl.tracing.read_sites")  # a function has its name
N = 12
PLACES = torch.tensor([7, 2, 2, 11, 0])
PART_X = torch.randn((5, 20), generator=torch.Generator().manual_seed(1), dtype=D)
FACTOR = torch.randn((N - 1, 2), generator=torch.Generator().manual_seed(3), dtype=D)
KERNEL = torch.tensor([0.2, 0.5, 0.3], dtype=D)


@pytest.mark.parametrize("name", AFFINE)
@pytest.mark.parametrize("missing", [False, True])
def test_the_observation_is_that_with_all_entries(name, missing, precise, monkeypatch):
    if missing and "multivariate" in name:
        pytest.skip("its event was observed in part")
    fn, y = ALL[name]
    y = [y[0], nan, y[2]] if missing else y
    dense = observation_of(read(event(fn), y=y), PART, precise)
    monkeypatch.setattr(probing, "LARGEST", 0)
    sites = read(event(fn), y=y)
    observation = observation_of(sites, PART, precise)
    assert isinstance(sites[0].H, la.LinearOperator) == (sites[0].H is not None)
    np.testing.assert_allclose(log_prob(observation, precise), log_prob(dense, precise), rtol=1e-9, atol=1e-9)
    if dense.has_jacobian:
        x = array(X, precise)
        assert_array(observation.linearise(x).H, host(dense.linearise(x).H), precise, 1e-10)


def field(dtype=D):
    return pyro.sample("x", dist.Normal(torch.ones(N, dtype=dtype), 2.0).to_event(1))


def seen(name, dtype=D):
    """A model that looks at a field of 12 numbers, and the matrix by which it does."""
    unit = torch.eye(N, dtype=D)
    looks = {
        "numbers": lambda x: 1.5 - 2.0 * x[..., PLACES],
        "one number": lambda x: x[..., :1],
        "all": lambda x: 0.5 * x,
        "backwards": lambda x: x.flip(-1),
        "differences": lambda x: x[..., 1:] - x[..., :-1],
        "averages": lambda x: (x[..., 2:] + x[..., 1:-1] + x[..., :-2]) / 3,
        "total": lambda x: x.sum(-1, keepdim=True),
        "convolution": lambda x: torch.nn.functional.conv1d(x[..., None, :], KERNEL.to(x)[None, None])[
            ..., 0, :
        ],
        "running total": lambda x: x.cumsum(-1),
    }
    look = looks[name]

    def model(y=None):
        mean = look(field(dtype))
        pyro.sample("y", dist.Normal(mean, torch.full_like(mean, 0.3)).to_event(1), obs=y)

    zero = look(torch.zeros(N, dtype=D))
    return model, torch.stack([look(row) - zero for row in unit], dim=-1), zero


def sites_of(model, **data):
    space = find_sites(model).space
    draws = space.flatten(prior_draws(model, space.names, 64, (0,)))
    return read_sites(model, space, {name: torch.as_tensor(y, dtype=D) for name, y in data.items()}, draws)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    "name",
    [
        "numbers",
        "one number",
        "all",
        "backwards",
        "differences",
        "averages",
        "total",
        "convolution",
        "running total",
    ],
)
def test_what_looks_at_numbers_one_by_one_is_told_from_what_does_not(name, dtype, monkeypatch):
    monkeypatch.setattr(probing, "LARGEST", 0)
    model, matrix, offset = seen(name, dtype)
    (site,) = sites_of(model, y=np.zeros(len(matrix)))
    close = {"rtol": 1e-12, "atol": 1e-12} if dtype == D else {"rtol": 1e-6, "atol": 1e-6}
    torch.testing.assert_close(site.H.dense(), matrix, **close)
    torch.testing.assert_close(site.H.rmatvec(torch.eye(len(matrix), dtype=D)), matrix, **close)
    torch.testing.assert_close(site.offset, offset, rtol=1e-5, atol=1e-5)
    alone = name in ("numbers", "one number", "all", "backwards")
    assert (site.H.single_entries is not None) == alone


def test_what_bends_is_not_affine(monkeypatch):
    monkeypatch.setattr(probing, "LARGEST", 0)

    def model(y=None):
        x = field()
        pyro.sample("y", dist.Normal(x + 1e-4 * x**2, 0.3).to_event(1), obs=y)

    (site,) = sites_of(model, y=np.zeros(N))
    assert site.H is None and site.differentiable


def test_a_model_that_vmap_cannot_run_is_run_one_by_one(monkeypatch):
    monkeypatch.setattr(probing, "LARGEST", 0)

    def model(y=None):
        x = field()
        x = x if x.detach().sum().item() > -1e9 else -x
        pyro.sample("y", dist.Normal(x[..., 1:] + x[..., :-1], 0.3).to_event(1), obs=y)

    (site,) = sites_of(model, y=np.zeros(N - 1))
    unit = torch.eye(N, dtype=D)
    torch.testing.assert_close(site.H.dense(), unit[1:] + unit[:-1])


def two_sites(y=None, z=None):
    x = field()
    pyro.sample("y", dist.Normal(x[..., PLACES], 0.3).to_event(1), obs=y)
    pyro.sample("z", dist.Normal(x[..., 1:] + x[..., :-1], 0.5).to_event(1), obs=z)


def posteriors(monkeypatch, ask, model=two_sites):
    """What is asked of a guide's posterior, with all entries of H and with operators."""
    layout = {"x": sp.Grid(covariance="dense")}
    guide = sp.ScoreGuide(model, net=None, layout=layout).fit_gaussian(5_000)
    found = [ask(guide)]
    monkeypatch.setattr(probing, "LARGEST", 0)
    return [*found, ask(guide)]


Y, Z = np.linspace(-1, 2, 5), np.linspace(3, 0, N - 1)
GAPS = np.where(np.arange(N - 1) % 3 == 0, np.nan, Z)


@pytest.mark.parametrize("z", [Z, GAPS])
@pytest.mark.parametrize("backend", ["torch", "numpy"])
def test_the_posterior_of_a_guide_is_the_same(z, backend, monkeypatch):
    def ask(guide):
        run = guide.condition(y=Y, z=z, backend=backend).run(20, seed=1)
        return torch.as_tensor(run.draws["x"]), run.diagnosis.log_evidence

    (one, first), (other, second) = posteriors(monkeypatch, ask)
    torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)
    assert first == pytest.approx(second, abs=1e-7)


def test_the_posterior_of_numbers_seen_one_by_one_is_the_same(monkeypatch):
    """In the units of the latents, whose standard deviation is not 1."""

    def ask(guide):
        return guide.condition(y=Y).run(20, seed=1).draws["x"]

    one, other = posteriors(monkeypatch, ask, seen("numbers")[0])
    torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)


def test_many_data_sets_are_solved_together(monkeypatch):
    def ask(guide):
        posteriors = guide.condition_many(y=np.stack([Y, Y + 1]), z=np.stack([GAPS, GAPS - 2]))
        run = posteriors.run(6, seed=2)
        assert run.alone == ()
        return run.draws["x"]

    torch.testing.assert_close(*posteriors(monkeypatch, ask), rtol=1e-8, atol=1e-8)


def test_a_saved_posterior_has_the_same_draws(tmp_path, monkeypatch):
    """Without the entries of H, which nothing but numbers observed one by one can do without."""
    monkeypatch.setattr(probing, "LARGEST", 0)
    layout = {"x": sp.Grid(covariance="dense")}
    guide = sp.ScoreGuide(seen("numbers")[0], net=None, layout=layout).fit_gaussian(5_000)
    posterior = guide.condition(y=[0.0, np.nan, 2.0, 1.0, -1.0])
    assert not posterior.arrays.observation.jacobian.materialised
    posterior.save(tmp_path / "posterior.safetensors")
    loaded = sp.load_posterior(tmp_path / "posterior.safetensors", backend="numpy")
    np.testing.assert_allclose(loaded.sample(5)["x"], posterior.sample(5)["x"].numpy(), atol=1e-9)
    other = sp.ScoreGuide(seen("averages")[0], net=None, layout=layout).fit_gaussian(5_000)
    with pytest.raises(TypeError, match="cannot save"):
        other.condition(y=np.zeros(N - 2)).save(tmp_path / "other.safetensors")


def correlated(y=None):
    mean = field()[..., 1:]
    noise = dist.LowRankMultivariateNormal(mean, FACTOR, torch.linspace(0.2, 0.6, N - 1, dtype=D))
    pyro.sample("y", noise, obs=y)


def test_low_rank_noise_is_an_operator(monkeypatch):
    """Its log-density and posterior are those with the covariance written out."""
    layout = {"x": sp.Grid(covariance="dense")}
    guide = sp.ScoreGuide(correlated, net=None, layout=layout).fit_gaussian(5_000)
    found = []
    for limit in (2_048, 3):
        monkeypatch.setattr(READING, "LARGEST_COVARIANCE", limit)
        posterior = guide.condition(y=Z)
        run = posterior.run(10, seed=2)
        x = PART_X[:, :N]
        found.append((run.draws["x"], posterior.arrays.observation.log_prob(x), run.diagnosis.log_evidence))
    assert isinstance(posterior.arrays.observation.noise, la.LowRankUpdate)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-9, atol=1e-9)
    assert found[0][2] == pytest.approx(found[1][2], abs=1e-8)
    torch.testing.assert_close(found[0][0].mean(dim=0), found[1][0].mean(dim=0), atol=1.0, rtol=0)


def test_covariances_of_too_many_numbers_are_refused_by_name(monkeypatch):
    monkeypatch.setattr(READING, "LARGEST_MATRIX", 4)

    def model(y=None):
        pyro.sample("y", dist.MultivariateNormal(field(), torch.eye(N, dtype=D)), obs=y)

    with pytest.raises(sp.ModelError, match=r"site 'y'.*12 numbers.*LowRankMultivariateNormal"):
        sites_of(model, y=np.zeros(N))
