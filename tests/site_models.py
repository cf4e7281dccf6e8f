"""Models with one observed site y of every kind, and the model's own ln p(y | z) to hold others to."""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine

import sdeppl as sp
from sdeppl.tracing import find_sites, prior_draws, read_sites

D = torch.float64
nan = float("nan")
A = torch.tensor([[1.0, -2.0, 0.5], [0.3, 0.0, 0.8], [-0.4, 0.7, 0.2]], dtype=D)
B = torch.tensor([0.7, -0.3, 0.2], dtype=D)
SCALES = torch.tensor([0.4, 1.3, 0.8], dtype=D)


def t(*numbers):
    return torch.tensor(numbers, dtype=D)


class Counted:
    """A model that counts its runs."""

    def __init__(self, model):
        self.model, self.runs = model, 0

    def __call__(self, *args, **kwargs):
        self.runs += 1
        return self.model(*args, **kwargs)


def prior(dtype=D):
    loc = torch.tensor([0.4, -0.3, 0.2], dtype=dtype)
    return pyro.sample("x", dist.Normal(loc, torch.tensor(0.7, dtype=dtype)).to_event(1))


def with_likelihood(fn, dtype=D):
    def model():
        x = prior(dtype)
        pyro.sample("y", fn(x))

    return model


def read(model, draws=100, latents=None, **data):
    space = find_sites(model, latents=latents).space
    values = prior_draws(model, space.names, draws, (0,))
    data = {name: torch.as_tensor(value, dtype=D) for name, value in data.items()}
    return read_sites(model, space, data, space.flatten(values))


def own_log_prob(model, z, **data):
    """The model's trace at x = z: ln p of its observed sites, NaN entries and masks left out, in float64."""
    data = {name: torch.as_tensor(value, dtype=D) for name, value in data.items()}
    observed = sp.tracing.Observe(data)(poutine.condition(model, data={"x": z}))
    with pyro.validation_enabled(False), torch.no_grad():
        trace = poutine.trace(observed).get_trace()
        trace.compute_log_prob()
    return sum(trace.nodes[name]["log_prob_sum"] for name in data)


def eta(x):
    return A @ x + B


CUTS = t(-1.0, 0.5, 1.5)
FACTOR = t(0.3, -0.2, 0.1)[:, None]
WEIGHTS = dist.Categorical(t(0.2, 0.5, 0.3))

# name: (distribution of y given x, data); η affine in x
AFFINE_FAMILIES = {
    "poisson": (lambda x: dist.Poisson(eta(x).exp()), [2.0, 0.0, 5.0]),
    "bernoulli by logits": (lambda x: dist.Bernoulli(logits=eta(x)), [1.0, 0.0, 1.0]),
    "bernoulli by probs": (lambda x: dist.Bernoulli(torch.sigmoid(eta(x))), [1.0, 0.0, 1.0]),
    "binomial": (lambda x: dist.Binomial(t(4.0, 9.0, 2.0), torch.sigmoid(eta(x))), [1.0, 7.0, 2.0]),
    "binomial by logits": (lambda x: dist.Binomial(9, logits=eta(x)), [1.0, 7.0, 2.0]),
    "negative binomial": (lambda x: dist.NegativeBinomial(t(2.5), logits=eta(x)), [2.0, 0.0, 5.0]),
    "geometric": (lambda x: dist.Geometric(logits=eta(x)), [2.0, 0.0, 5.0]),
    "student": (lambda x: dist.StudentT(t(3.0), eta(x), SCALES), [2.0, -0.3, 5.0]),
    "laplace": (lambda x: dist.Laplace(eta(x), SCALES), [2.0, -0.3, 5.0]),
    "cauchy": (lambda x: dist.Cauchy(eta(x), SCALES), [2.0, -0.3, 5.0]),
    "gamma by rate": (lambda x: dist.Gamma(t(2.5), eta(x).exp()), [2.0, 0.3, 5.0]),
    "gamma by concentration": (lambda x: dist.Gamma(eta(x).exp(), t(2.5)), [2.0, 0.3, 5.0]),
    "exponential": (lambda x: dist.Exponential(eta(x).exp()), [2.0, 0.3, 5.0]),
    "half normal": (lambda x: dist.HalfNormal(eta(x).exp()), [2.0, 0.3, 5.0]),
    "weibull": (lambda x: dist.Weibull(eta(x).exp(), t(1.7)), [2.0, 0.3, 5.0]),
    "beta": (lambda x: dist.Beta(eta(x).exp(), t(1.7)), [0.2, 0.3, 0.9]),
    "von mises": (lambda x: dist.VonMises(eta(x), t(1.7)), [0.2, -0.3, 2.9]),
    "zero-inflated poisson": (lambda x: dist.ZeroInflatedPoisson(eta(x).exp(), gate=t(0.3)), [2.0, 0.0, 5.0]),
    "zero inflation": (lambda x: dist.ZeroInflatedPoisson(t(2.0), gate_logits=eta(x)), [2.0, 0.0, 5.0]),
    "gamma-poisson": (lambda x: dist.GammaPoisson(t(2.5), eta(x).exp()), [2.0, 0.0, 5.0]),
    "scale alone": (lambda x: dist.StudentT(t(3.0), t(0.3), eta(x).exp()), [2.0, -0.3, 5.0]),
    "student on a log scale": (
        lambda x: dist.TransformedDistribution(
            dist.StudentT(t(3.0), eta(x), SCALES), [torch.distributions.ExpTransform()]
        ),
        [2.0, 0.3, 5.0],
    ),
    "censored": (lambda x: sp.Censored(dist.Normal(eta(x), SCALES), -0.5, t(2.0)), [2.0, -0.5, 0.3]),
    "interval": (
        lambda x: sp.Interval(dist.Normal(eta(x), SCALES), t(-1.0), t(2.0, 0.0, 3.0)),
        [1.0, 1.0, 0.0],
    ),
    "heavy-tailed mixture": (
        lambda x: dist.MixtureSameFamily(
            WEIGHTS.expand([3]), dist.Normal(eta(x)[:, None].expand(3, 3), t(0.3, 1.0, 9.0))
        ),
        [2.0, -0.3, 5.0],
    ),
    "mixture of shifts": (
        lambda x: dist.MixtureSameFamily(
            WEIGHTS.expand([3]), dist.Laplace(eta(x)[:, None] + t(-1.0, 0.0, 2.0), t(0.3, 1.0, 2.0))
        ),
        [2.0, -0.3, 5.0],
    ),
    "mixture of rates": (
        lambda x: dist.MixtureSameFamily(
            WEIGHTS.expand([3]), dist.Poisson(eta(x).exp()[:, None] * t(0.5, 1.0, 2.0))
        ),
        [2.0, 0.0, 5.0],
    ),
}

# η not affine in x
CURVED_FAMILIES = {
    "softplus rate": (lambda x: dist.Poisson(torch.nn.functional.softplus(eta(x))), [2.0, 0.0, 5.0]),
    "squared location": (lambda x: dist.StudentT(t(4.0), eta(x) ** 2, SCALES), [2.0, -0.3, 5.0]),
    "squared logit": (lambda x: dist.Bernoulli(logits=eta(x) ** 2), [1.0, 0.0, 1.0]),
    "uniform below a latent": (lambda x: dist.Uniform(t(-9.0), 5 * x.exp()), [2.0, 0.3, 1.0]),
    "gamma by its mean": (
        lambda x: dist.Gamma(t(2.5), 2.5 / torch.nn.functional.softplus(eta(x))),
        [2.0, 0.3, 5.0],
    ),
}

GAUSSIANS = {
    "affine": (lambda x: dist.Normal(eta(x), SCALES), [2.0, -0.3, 5.0]),
    "multivariate": (
        lambda x: dist.MultivariateNormal(eta(x), A @ A.T + torch.eye(3, dtype=D)),
        [2.0, -0.3, 5.0],
    ),
    "curved": (lambda x: dist.Normal(eta(x) ** 2, SCALES), [2.0, -0.3, 5.0]),
    "lognormal": (lambda x: dist.LogNormal(eta(x), SCALES), [2.0, 0.3, 5.0]),
    "logit-normal": (
        lambda x: dist.TransformedDistribution(
            dist.Normal(eta(x), SCALES), [torch.distributions.SigmoidTransform()]
        ),
        [0.2, 0.3, 0.9],
    ),
    "location and scale": (
        lambda x: dist.TransformedDistribution(
            dist.Normal(t(0.2), 1.3), [torch.distributions.AffineTransform(eta(x), SCALES)]
        ),
        [2.0, -0.3, 5.0],
    ),
}

LATENT_NOISE = {
    "scale": (lambda x: dist.Normal(eta(x), eta(x).exp()), [2.0, -0.3, 5.0]),
    "scale alone": (lambda x: dist.Normal(t(0.3), eta(x).exp()), [2.0, -0.3, 5.0]),
    "scale of a lognormal": (lambda x: dist.LogNormal(x[0], eta(x).exp()), [2.0, 0.3, 5.0]),
    "step in the scale": (lambda x: dist.Normal(x, torch.where(x > 0.5, 2.0, 1.0).to(D)), [2.0, -0.3, 5.0]),
    "covariance": (
        lambda x: dist.MultivariateNormal(eta(x), torch.eye(3, dtype=D) + 0.2 * torch.outer(x, x)),
        [2.0, -0.3, 5.0],
    ),
    "correlation": (
        lambda x: dist.MultivariateNormal(
            eta(x), torch.eye(3, dtype=D) + torch.tanh(x[0]) * 0.2 * (1 - torch.eye(3, dtype=D))
        ),
        [2.0, -0.3, 5.0],
    ),
    "low rank": (
        lambda x: dist.LowRankMultivariateNormal(eta(x), FACTOR * x[0], SCALES),
        [2.0, -0.3, 5.0],
    ),
}


class Skewed(dist.TorchDistribution):
    """A distribution of the user's own, of which no parameter is declared."""

    arg_constraints = {}
    support = dist.constraints.real

    def __init__(self, loc):
        self.loc = loc
        super().__init__(loc.shape, torch.Size(), validate_args=False)

    def sample(self, sample_shape=()):
        return self.loc + torch.randn(self.loc.shape).to(self.loc)

    def expand(self, batch_shape, _instance=None):
        return Skewed(self.loc.expand(batch_shape))

    def log_prob(self, value):
        r = value - self.loc
        return -r - torch.exp(-r)


class Positive(dist.Normal):
    """A normal cut off at zero, which keeps the name of a normal."""

    support = dist.constraints.positive

    def log_prob(self, value):
        return super().log_prob(value) - torch.special.log_ndtr(self.loc / self.scale)


DENSITIES = {
    "two parameters": (lambda x: dist.StudentT(t(3.0), eta(x), eta(x).exp()), [2.0, -0.3, 5.0]),
    "categorical": (lambda x: dist.Categorical(logits=eta(x)).expand([2]), [2.0, 0.0]),
    "ordinal and its cuts": (
        lambda x: dist.Categorical(torch.softmax(torch.stack([eta(x), x, 0 * x]), dim=-1)),
        [1.0, 0.0, 2.0],
    ),
    "multivariate student": (
        lambda x: dist.MultivariateStudentT(t(3.0)[0], eta(x), torch.eye(3, dtype=D)),
        [2.0, -0.3, 5.0],
    ),
    "multinomial": (lambda x: dist.Multinomial(7, logits=eta(x)), [2.0, 4.0, 1.0]),
    "dirichlet": (lambda x: dist.Dirichlet(eta(x).exp()), [0.2, 0.5, 0.3]),
    "components apart": (
        lambda x: dist.MixtureSameFamily(
            WEIGHTS.expand([3]), dist.Normal(torch.outer(x, t(1.0, 2.0, 3.0)), t(0.3, 1.0, 2.0))
        ),
        [2.0, -0.3, 5.0],
    ),
    "of the user's own": (lambda x: Skewed(eta(x)), [2.0, -0.3, 5.0]),
    "not the normal it seems": (lambda x: Positive(eta(x), SCALES), [2.0, 0.3, 5.0]),
}

ALL = {
    f"{group}: {name}": case
    for group, cases in [
        ("family", AFFINE_FAMILIES),
        ("curved family", CURVED_FAMILIES),
        ("gaussian", GAUSSIANS),
        ("latent noise", LATENT_NOISE),
        ("density", DENSITIES),
    ]
    for name, case in cases.items()
}
