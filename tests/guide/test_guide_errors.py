"""What a guide refuses, naming the site."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

import sdeppl as sp

D = torch.float64
nan = math.nan
Y = np.array([3.7, -6.0, 5.2])


def vector_model(y=None, shift=0.0):
    x = pyro.sample("x", dist.Normal(torch.tensor([1.0, -2.0, 30.0], dtype=D) + shift, 2.0).to_event(1))
    pyro.sample("y", dist.Normal(2 * x, 0.5).to_event(1), obs=y)


@pytest.fixture(scope="module")
def guide():
    return sp.ScoreGuide(vector_model, net=None, seed=1).fit_gaussian(2000, progress=False)


def test_errors_name_the_site(guide):
    with pytest.raises(sp.ModelError, match="not fitted"):
        sp.ScoreGuide(vector_model).condition(y=Y)
    with pytest.raises(sp.ModelError, match=r"no data: give values for some of \['y'\]"):
        guide.condition()
    with pytest.raises(sp.ModelError, match="'x' is a latent"):
        guide.condition(x=np.zeros(3))
    with pytest.raises(sp.ModelError, match="no observable site 'z'"):
        guide.condition(z=1.0)
    with pytest.raises(sp.ModelError, match=r"every value of \['y'\] is NaN"):
        guide.condition(y=np.full(3, nan))
    with pytest.raises(sp.ModelError, match=r"'y': the data have shape \(2,\)"):
        guide.condition(y=[1.0, 2.0])
    with pytest.raises(sp.ModelError, match="'y': the data are not numbers"):
        guide.condition(y="three")
    with pytest.raises(ValueError, match="likelihood='exactly' is unknown"):
        guide.condition(y=Y, likelihood="exactly")
    with pytest.raises(ValueError, match="names no backend"):
        guide.condition(y=Y, backend="jax")
    with pytest.raises(ValueError, match="5 draws are too few for the covariance of 3 numbers"):
        sp.ScoreGuide(vector_model).fit_gaussian(5, progress=False)


def test_a_model_without_likelihood():
    def model():
        pyro.sample("x", dist.Normal(0.0, 1.0))

    guide = sp.ScoreGuide(model, net=None).fit_gaussian(100, progress=False)
    with pytest.raises(sp.ModelError, match="the model has no likelihood"):
        guide.condition()


def test_another_prior_is_refused(guide):
    def shifted(y=None):
        vector_model(y, shift=1.0)

    def renamed(y=None):
        x = pyro.sample("u", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        pyro.sample("y", dist.Normal(x, 1.0).to_event(1), obs=y)

    with pytest.raises(sp.ModelError, match="'x' has another prior here"):
        guide.condition(y=Y, model=shifted)
    with pytest.raises(sp.ModelError, match=r"'x'"):
        guide.condition(y=Y, model=renamed)


def test_inputs_that_move_the_prior_are_refused():
    def model(width=1.0, y=None):
        x = pyro.sample("x", dist.Normal(torch.tensor(0.0, dtype=D), width))
        pyro.sample("y", dist.Normal(x, 1.0), obs=y)

    guide = sp.ScoreGuide(model, net=None).fit_gaussian(1000, progress=False)
    guide.condition(y=1.0, kwargs={"width": 1.0})
    with pytest.raises(sp.ModelError, match="'x' has another prior"):
        guide.condition(y=1.0, kwargs={"width": 2.0})


def test_conditioning_leaves_the_global_random_state_alone(guide):
    torch.manual_seed(2)
    expected = torch.rand(3)
    torch.manual_seed(2)
    guide.condition(y=Y).sample(5)
    assert torch.equal(torch.rand(3), expected)


def test_data_that_would_lose_something_are_refused_or_kept(guide):
    masked = np.ma.masked_array(Y, mask=[False, True, False])
    one, other = (
        guide.condition(y=y, backend="numpy").sample(5)["x"] for y in (masked, np.array([3.7, nan, 5.2]))
    )
    np.testing.assert_array_equal(one, other)
    assert not np.allclose(one, guide.condition(y=Y, backend="numpy").sample(5)["x"])
    whole = np.ma.masked_array([3, -6, 5], mask=[False, True, False])
    same = np.array([3.0, nan, 5.0])
    np.testing.assert_array_equal(*(guide.condition(y=y).sample(5)["x"] for y in (whole, same)))
    for y in (Y + 1j, torch.tensor(Y) + 1j, [1.0, 2j, 3.0], np.ma.masked_array(Y + 1j)):
        with pytest.raises(sp.ModelError, match="'y': the data are complex"):
            guide.condition(y=y)
    for y in (None, [1.0, None, 2.0], np.array([1.0, None, 2.0])):
        with pytest.raises(sp.ModelError, match="'y': the data hold None; use NaN for what was not observed"):
            guide.condition(y=y)


@pytest.mark.parametrize("data", [torch.tensor(Y), Y, [1.0, 2.0, 3.0], 1.0])
def test_data_without_a_name_are_refused(guide, data):
    with pytest.raises(TypeError, match=r"give them by site name: condition\(y=...\)"):
        guide.condition(data)


def test_a_latent_that_the_model_observes_is_refused(guide):
    fixed = poutine.condition(vector_model, data={"x": torch.zeros(3, dtype=D)})
    with pytest.raises(sp.ModelError, match="latent site 'x' is observed in the model"):
        guide.condition(y=Y, model=fixed)
    with pytest.raises(sp.ModelError, match="latent site 'x' is observed in the model"):
        sp.ScoreGuide(fixed, latents=["x"])


def test_wrong_arguments_are_reported_before_any_work(monkeypatch):
    with pytest.raises(TypeError, match=r"sde=VPSDE is a class; give an instance: VPSDE\(\)"):
        sp.ScoreGuide(vector_model, sde=sp.VPSDE)
    with pytest.raises(TypeError, match="sde is a str; expected an IsotropicSDE"):
        sp.ScoreGuide(vector_model, sde="vp")
    for net in (sp.ResidualMLP(3), "mlp"):
        with pytest.raises(TypeError, match="give a factory, dim ↦ module, such as ResidualMLP"):
            sp.ScoreGuide(vector_model, net=net)
    monkeypatch.setenv("SDEPPL_BACKEND", "jax")
    with pytest.raises(ValueError, match="SDEPPL_BACKEND='jax' names no backend"):
        sp.ScoreGuide(vector_model)
