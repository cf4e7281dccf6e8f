"""Whether an observed site has derivatives that say something, and whether vmap can run it."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from site_models import D, own_log_prob, prior, read, t, with_likelihood

from sdeppl.tracing import DensitySite, FamilySite, GaussianSite, over_rows

pytestmark = pytest.mark.filterwarnings(
    "ignore::sdeppl.tracing.SlowDrawsWarning", "ignore:Converting a tensor", "ignore:There is a performance"
)
POINTS = torch.randn((4, 3), generator=torch.Generator().manual_seed(3), dtype=D)


def simulator(x):
    """Something outside torch."""
    return torch.as_tensor(np.sin(x.numpy()) + 1.0)


NOT_DIFFERENTIABLE = {
    "rounded mean": (lambda x: dist.Normal(x.round(), 0.5).to_event(1), GaussianSite, True),
    "rounded in part": (
        lambda x: dist.Normal(torch.stack([x[0], x[1], x[2].round()]), 0.5).to_event(1),
        GaussianSite,
        True,
    ),
    "two latents, one rounded": (
        lambda x: dist.Normal((x[0] + x[1].round()) * t(1.0, 2.0, 3.0), 0.5).to_event(1),
        GaussianSite,
        True,
    ),
    "rounded covariance": (
        lambda x: dist.Normal(0.0, x.round().abs() + 0.5).to_event(1),
        GaussianSite,
        True,
    ),
    "floor in a rate": (lambda x: dist.Poisson(x.floor().exp()).to_event(1), FamilySite, True),
    "a comparison": (
        lambda x: dist.Laplace((x > 0.3).to(D), 0.5).to_event(1),
        FamilySite,
        True,
    ),
    "the largest": (
        lambda x: dist.Categorical(logits=(x == x.max()).to(D)).expand([3]).to_event(1),
        DensitySite,
        True,
    ),
    "infinite slope": (lambda x: dist.Normal((x * (x > 0)).sqrt(), 0.5).to_event(1), GaussianSite, True),
    "NumPy": (lambda x: dist.Normal(simulator(x), 0.5).to_event(1), GaussianSite, False),
    "NumPy in a rate": (lambda x: dist.Poisson(simulator(x) + 0.1).to_event(1), FamilySite, False),
    "detached in part": (
        lambda x: dist.StudentT(t(3.0), x.detach(), x.exp()).to_event(1),
        DensitySite,
        True,
    ),
    "item": (
        lambda x: dist.StudentT(t(3.0), torch.tensor([i.item() for i in x], dtype=D), x.exp()).to_event(1),
        DensitySite,
        False,
    ),
}


@pytest.mark.parametrize("name", NOT_DIFFERENTIABLE)
def test_what_has_no_gradient(name):
    fn, kind, vectorised = NOT_DIFFERENTIABLE[name]
    model = with_likelihood(fn)
    (site,) = read(model, latents=["x"], y=[1.0, 1.0, 0.0])
    assert (type(site), site.differentiable, site.vectorised) == (kind, False, vectorised)
    assert getattr(site, "H", None) is None
    found = over_rows(site.log_prob, POINTS, vectorised)
    expected = torch.stack([own_log_prob(model, z, y=[1.0, 1.0, 0.0]) for z in POINTS])
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


DIFFERENTIABLE = {
    "of one latent alone": lambda x: dist.Normal(x[0] * t(1.0, 2.0, 3.0), 0.5).to_event(1),
    "a kink": lambda x: dist.Laplace(x.abs(), 0.5).to_event(1),
    "saturated": lambda x: dist.Normal(x.clamp(-0.5, 0.5), 0.5).to_event(1),
    "a latent that cancels": lambda x: dist.Normal((x + x[1]) - x[1], 0.5).to_event(1),
    "switched": lambda x: dist.Normal(torch.where(x[0] > 0, x, 3 * x), 0.5).to_event(1),
}


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_what_has_a_gradient(name):
    (site,) = read(with_likelihood(DIFFERENTIABLE[name]), y=[1.0, 2.0, 0.0])
    assert site.differentiable and site.vectorised
    if name == "a latent that cancels":
        torch.testing.assert_close(site.H, torch.eye(3, dtype=D))


def classifier(recurrent=False):
    generator = torch.Generator().manual_seed(5)
    net = (
        torch.nn.LSTM(1, 4, batch_first=True)
        if recurrent
        else torch.nn.Sequential(
            torch.nn.Linear(3, 8), torch.nn.Dropout(0.5), torch.nn.Tanh(), torch.nn.Linear(8, 4)
        )
    )
    for parameter in net.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    net.double().eval()
    return (lambda x: net(x[:, None])[0][-1]) if recurrent else net


@pytest.mark.parametrize("recurrent", [False, True])
def test_a_classifier(recurrent):
    """Parameters that want gradients of their own; a recurrent one has no rule for vmap."""
    net = classifier(recurrent)

    def model():
        x = prior()
        pyro.sample("y", dist.Categorical(logits=net(x)))

    (site,) = read(model, y=2)
    assert (type(site), site.differentiable, site.vectorised) == (DensitySite, True, not recurrent)
    z = POINTS[0].clone().requires_grad_()
    expected = torch.log_softmax(net(z), dim=-1)[2]
    (slope,) = torch.autograd.grad(expected, z)
    found = over_rows(torch.func.grad(site.log_prob), POINTS[:1], site.vectorised)[0]
    torch.testing.assert_close(found, slope, rtol=1e-10, atol=1e-12)
    assert not over_rows(site.log_prob, POINTS, site.vectorised).requires_grad
