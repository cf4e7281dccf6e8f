"""Likelihoods and data that the mean likelihood cannot take: refused, never misread."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from sdeppl.tracing import ModelError, find_sites, prior_draws, read_sites

D = torch.float64
nan = float("nan")


def prior():
    loc = torch.tensor([1.0, -1.0, 2.0], dtype=D)
    return pyro.sample("x", dist.Normal(loc, torch.tensor(2.0, dtype=D)).to_event(1))


def read(model, latents=None, **data):
    space = find_sites(model, latents=latents).space
    values = prior_draws(model, space.names, 256, (0,))
    data = {name: torch.as_tensor(value, dtype=D) for name, value in data.items()}
    return read_sites(model, space, data, space.flatten(values))


def with_likelihood(fn):
    def model():
        x = prior()
        pyro.sample("y", fn(x))

    return model


ERRORS = {
    "latent scale": (lambda x: dist.Normal(x, x.abs() + 0.1).to_event(1), "'y': its covariance depends"),
    "step in scale": (
        lambda x: dist.Normal(x, torch.where(x > 3, 2.0, 1.0)).to_event(1),
        "'y': its covariance depends",
    ),
    "latent covariance": (
        lambda x: dist.MultivariateNormal(x, torch.eye(3, dtype=D) + 0.2 * torch.outer(x, x)),
        "'y': its covariance depends",
    ),
    "latent correlation": (
        lambda x: dist.MultivariateNormal(
            x, torch.eye(3, dtype=D) + torch.tanh(x[0]) * 0.2 * (1 - torch.eye(3, dtype=D))
        ),
        "'y': its covariance depends",
    ),
    "poisson": (lambda x: dist.Poisson(x.exp()).to_event(1), "'y' is a Poisson"),
    "studentt": (lambda x: dist.StudentT(3.0, x, 1.0).to_event(1), "'y' is a StudentT"),
    "lognormal": (lambda x: dist.LogNormal(x, 1.0).to_event(1), "'y' is a LogNormal"),
    "multivariate t": (
        lambda x: dist.MultivariateStudentT(torch.tensor(3.0, dtype=D), x, torch.eye(3, dtype=D)),
        "'y' is a MultivariateStudentT",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_what_the_mean_likelihood_cannot_take(case):
    fn, message = ERRORS[case]
    with pytest.raises(ModelError, match=message):
        read(with_likelihood(fn), y=[1.0, 2.0, 3.0])


def test_errors_in_the_data_name_the_site():
    model = with_likelihood(lambda x: dist.Normal(x, 1.0).to_event(1))
    with pytest.raises(ModelError, match=r"no observable site 'w'; it has \['y'\]"):
        read(model, w=1.0)
    with pytest.raises(ModelError, match="'x' is a latent"):
        read(model, x=[1.0, 2.0, 3.0])
    with pytest.raises(ModelError, match=r"'y': the data have shape \(2,\), the model \(3,\)"):
        read(model, y=[1.0, 2.0])
    with pytest.raises(ModelError, match="'y': the data hold infinity"):
        read(model, y=[1.0, np.inf, nan])


def test_what_changes_the_posterior_unseen_is_refused():
    def subsampled():
        x = prior()
        with pyro.plate("data", 30, subsample_size=3):
            pyro.sample("y", dist.Normal(x, 1.0))

    def scaled_likelihood():
        x = prior()
        with poutine.scale(scale=0.5):
            pyro.sample("y", dist.Normal(x, 1.0).to_event(1))

    def scaled_prior():
        with poutine.scale(scale=0.5):
            x = prior()
        pyro.sample("y", dist.Normal(x, 1.0).to_event(1))

    def factor():
        x = prior()
        pyro.factor("potential", -(x.sum() ** 2))
        pyro.sample("y", dist.Normal(x, 1.0).to_event(1))

    data = [1.0, 2.0, 3.0]
    for model, message in [
        (subsampled, "'y' is scaled"),
        (scaled_likelihood, "'y' is scaled"),
        (scaled_prior, "'x' is scaled"),
        (factor, "'potential' is a pyro.factor"),
    ]:
        with pytest.raises(ModelError, match=message):
            read(model, latents=["x"], y=data)


def test_a_likelihood_of_nothing():
    def model():
        prior()
        pyro.sample("y", dist.Normal(torch.tensor(1.0, dtype=D), 1.0))

    with pytest.raises(ModelError, match="'y' depends on no latent"):
        read(model, latents=["x"], y=1.0)
