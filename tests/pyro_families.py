"""Pyro's distributions with a parameter that depends on a latent z, data for them, and as priors.

Of those that only wrap, copy or stand for others (Delta, Empirical, IndependentHMM, Unit and so on) there are
tests of their own. SAMPLELESS cannot be drawn, so a model has to observe them itself.
"""

import math

import pyro.distributions as dist
import pyro.distributions.transforms as T
import torch

D = torch.float64


def t(*numbers):
    return torch.tensor(numbers, dtype=D)


def s(number):
    return torch.tensor(number, dtype=D)


ONE, EYE = t(1.0, 1.0, 1.0), torch.eye(2, dtype=D)
CORRELATED = torch.tensor([[1.0, 0.4], [0.4, 1.5]], dtype=D)


def pair(z):
    return torch.stack([z, 0.5 * z - 0.3])


def triple(z):
    return torch.stack([z, 0.5 * z - 0.3, 0 * z])


def shares(z):
    return torch.softmax(triple(z), -1)


def sphere(z):
    v = torch.stack([torch.cos(z), torch.sin(z)])
    return v / v.norm()


def _hmm(z):
    # one hidden number, its noise and its observation
    init = dist.Normal(s(0.0), s(1.0)).expand([1]).to_event(1)
    noise = dist.Normal(s(0.0), s(0.5)).expand([1]).to_event(1)
    seen = dist.Normal(s(0.0), z.exp()).expand([1]).to_event(1)
    one = torch.eye(1, dtype=D)
    return dist.GaussianHMM(init, one, noise, one, seen, duration=3)


def _linear_hmm(z):
    init = dist.Normal(s(0.0), s(1.0)).expand([1]).to_event(1)
    one = torch.eye(1, dtype=D)
    seen = dist.Normal(s(0.0), z.exp()).expand([1]).to_event(1)
    return dist.LinearHMM(init, one, init, one, seen, duration=3)


def _discrete_hmm(z):
    logits = t(0.3, -0.2)
    return dist.DiscreteHMM(
        logits, torch.stack([logits, -logits]), dist.Normal(torch.stack([z, z + 1.0]), s(0.7)), duration=3
    )


# name: (distribution of y given z, data)
LIKELIHOODS = {
    "AVFMultivariateNormal": (
        lambda z: dist.AVFMultivariateNormal(pair(z), EYE, torch.zeros(2, 1, 2, dtype=D)),
        t(0.4, -0.2),
    ),
    "AffineBeta": (lambda z: dist.AffineBeta(z.exp(), s(2.0), s(-1.0), s(3.0)), s(0.4)),
    "AsymmetricLaplace": (lambda z: dist.AsymmetricLaplace(z, s(0.8), s(1.5)), s(0.9)),
    "Bernoulli": (lambda z: dist.Bernoulli(logits=z), s(1.0)),
    "Beta": (lambda z: dist.Beta(z.exp(), s(2.0)), s(0.3)),
    "BetaBinomial": (lambda z: dist.BetaBinomial(z.exp(), s(2.0), 7), s(4.0)),
    "Binomial": (lambda z: dist.Binomial(7, logits=z), s(5.0)),
    "Categorical": (lambda z: dist.Categorical(logits=triple(z)), torch.tensor(1)),
    "Cauchy": (lambda z: dist.Cauchy(z, s(0.7)), s(1.2)),
    "Chi2": (lambda z: dist.Chi2(z.exp()), s(0.8)),
    "CoalescentTimes": (lambda z: dist.CoalescentTimes(t(0.0, 0.0, 0.0), z.exp()), t(-1.1, -0.4)),
    "ContinuousBernoulli": (lambda z: dist.ContinuousBernoulli(logits=z), s(0.3)),
    "Dirichlet": (lambda z: dist.Dirichlet(triple(z).exp()), t(0.3, 0.5, 0.2)),
    "DirichletMultinomial": (lambda z: dist.DirichletMultinomial(triple(z).exp(), 7), t(4.0, 2.0, 1.0)),
    "DiscreteHMM": (_discrete_hmm, t(0.2, -0.4, 1.3)),
    "Exponential": (lambda z: dist.Exponential(z.exp()), s(0.8)),
    "ExtendedBetaBinomial": (lambda z: dist.ExtendedBetaBinomial(z.exp(), s(2.0), 7), s(4.0)),
    "ExtendedBinomial": (lambda z: dist.ExtendedBinomial(7, logits=z), s(5.0)),
    "FisherSnedecor": (lambda z: dist.FisherSnedecor(z.exp(), s(4.0)), s(0.8)),
    "FoldedDistribution": (lambda z: dist.FoldedDistribution(dist.Normal(z, s(0.7))), s(0.9)),
    "Gamma": (lambda z: dist.Gamma(s(2.5), z.exp()), s(0.8)),
    "GammaPoisson": (lambda z: dist.GammaPoisson(z.exp(), s(0.9)), s(3.0)),
    "GaussianHMM": (_hmm, t(0.3, -0.2, 1.4)[:, None]),
    "GeneralizedPareto": (lambda z: dist.GeneralizedPareto(s(0.0), z.exp(), s(0.3)), s(0.8)),
    "Geometric": (lambda z: dist.Geometric(logits=z), s(3.0)),
    "GroupedNormalNormal": (
        lambda z: dist.GroupedNormalNormal(z.expand(2), t(0.8, 1.1), s(0.6), torch.tensor([0, 0, 1, 1])),
        t(0.4, 0.1, -0.3, 0.9),
    ),
    "Gumbel": (lambda z: dist.Gumbel(z, s(0.7)), s(0.9)),
    "HalfCauchy": (lambda z: dist.HalfCauchy(z.exp()), s(0.9)),
    "HalfNormal": (lambda z: dist.HalfNormal(z.exp()), s(0.9)),
    "InverseGamma": (lambda z: dist.InverseGamma(s(2.5), z.exp()), s(0.9)),
    "Kumaraswamy": (lambda z: dist.Kumaraswamy(z.exp(), s(1.5)), s(0.4)),
    "LKJ": (lambda z: dist.LKJ(2, z.exp()), torch.tensor([[1.0, 0.4], [0.4, 1.0]], dtype=D)),
    "LKJCholesky": (
        lambda z: dist.LKJCholesky(2, z.exp()),
        torch.linalg.cholesky(torch.tensor([[1.0, 0.4], [0.4, 1.0]], dtype=D)),
    ),
    "Laplace": (lambda z: dist.Laplace(z, s(0.7)), s(0.9)),
    "LinearHMM": (_linear_hmm, t(0.3, -0.2, 1.4)[:, None]),
    "LogNormal": (lambda z: dist.LogNormal(z, s(0.7)), s(0.9)),
    "LogNormalNegativeBinomial": (
        lambda z: dist.LogNormalNegativeBinomial(s(4.0), z, s(0.5)),
        s(3.0),
    ),
    "Logistic": (lambda z: dist.Logistic(z, s(0.7)), s(0.9)),
    "LogisticNormal": (lambda z: dist.LogisticNormal(pair(z), t(0.7, 0.9)), t(0.3, 0.5, 0.2)),
    "LowRankMultivariateNormal": (
        lambda z: dist.LowRankMultivariateNormal(pair(z), t(0.3, -0.2)[:, None], t(0.5, 0.8)),
        t(0.4, -0.2),
    ),
    "MaskedMixture": (
        lambda z: dist.MaskedMixture(
            torch.tensor([True, False]), dist.Normal(z, t(0.5, 0.7)), dist.Normal(-z, t(0.5, 0.7))
        ),
        t(0.4, -0.2),
    ),
    "MixtureOfDiagNormals": (
        lambda z: dist.MixtureOfDiagNormals(
            torch.stack([pair(z), -pair(z)]), torch.ones(2, 2, dtype=D) * 0.7, t(0.3, 0.7)
        ),
        t(0.4, -0.2),
    ),
    "MixtureOfDiagNormalsSharedCovariance": (
        lambda z: dist.MixtureOfDiagNormalsSharedCovariance(
            torch.stack([pair(z), -pair(z)]), t(0.7, 0.9), t(0.3, 0.7)
        ),
        t(0.4, -0.2),
    ),
    "MixtureSameFamily": (
        lambda z: dist.MixtureSameFamily(
            dist.Categorical(t(0.3, 0.7)), dist.Normal(torch.stack([z, z + 1.0]), t(0.5, 0.8))
        ),
        s(0.9),
    ),
    "Multinomial": (lambda z: dist.Multinomial(7, probs=shares(z)), t(4.0, 2.0, 1.0)),
    "MultivariateNormal": (lambda z: dist.MultivariateNormal(pair(z), CORRELATED), t(0.4, -0.2)),
    "MultivariateStudentT": (
        lambda z: dist.MultivariateStudentT(s(4.0), pair(z), torch.linalg.cholesky(CORRELATED)),
        t(0.4, -0.2),
    ),
    "NanMaskedNormal": (lambda z: dist.NanMaskedNormal(pair(z), t(0.5, 0.8)), t(0.4, math.nan)),
    "NanMaskedMultivariateNormal": (
        lambda z: dist.NanMaskedMultivariateNormal(pair(z), CORRELATED),
        t(0.4, math.nan),
    ),
    "NegativeBinomial": (lambda z: dist.NegativeBinomial(s(2.5), logits=z), s(4.0)),
    "Normal": (lambda z: dist.Normal(z, s(0.7)), s(0.9)),
    "OMTMultivariateNormal": (
        lambda z: dist.OMTMultivariateNormal(pair(z), torch.linalg.cholesky(CORRELATED)),
        t(0.4, -0.2),
    ),
    "OneHotCategorical": (lambda z: dist.OneHotCategorical(logits=triple(z)), t(0.0, 1.0, 0.0)),
    "OneOneMatching": (
        lambda z: dist.OneOneMatching(torch.stack([pair(z), -pair(z)])),
        torch.tensor([1, 0]),
    ),
    "OneTwoMatching": (
        lambda z: dist.OneTwoMatching(torch.stack([pair(z), -pair(z), 2 * pair(z), 0 * pair(z)])),
        torch.tensor([1, 0, 0, 1]),
    ),
    "OrderedLogistic": (lambda z: dist.OrderedLogistic(z, t(-0.5, 0.8)), torch.tensor(1)),
    "Pareto": (lambda z: dist.Pareto(s(0.5), z.exp()), s(0.9)),
    "Poisson": (lambda z: dist.Poisson(z.exp()), s(3.0)),
    "ProjectedNormal": (lambda z: dist.ProjectedNormal(pair(z)), sphere(s(0.4))),
    "RelaxedBernoulli": (lambda z: dist.RelaxedBernoulli(s(0.8), logits=z), s(0.3)),
    "RelaxedOneHotCategorical": (
        lambda z: dist.RelaxedOneHotCategorical(s(0.8), logits=triple(z)),
        t(0.3, 0.5, 0.2),
    ),
    "SineBivariateVonMises": (
        lambda z: dist.SineBivariateVonMises(z, s(0.3), s(2.0), s(3.0), s(0.7)),
        t(0.4, -0.2),
    ),
    "SineSkewed": (
        lambda z: dist.SineSkewed(dist.VonMises(z, s(2.0)).expand([1]).to_event(1), t(0.4)),
        t(0.4),
    ),
    "SkewLogistic": (lambda z: dist.SkewLogistic(z, s(0.7), s(1.4)), s(0.9)),
    "SoftAsymmetricLaplace": (lambda z: dist.SoftAsymmetricLaplace(z, s(0.7), s(1.4), s(0.5)), s(0.9)),
    "SoftLaplace": (lambda z: dist.SoftLaplace(z, s(0.7)), s(0.9)),
    "SpanningTree": (
        lambda z: dist.SpanningTree(triple(z), {"backend": "python"}),
        torch.tensor([[0, 1], [0, 2]]),
    ),
    "Stable": (lambda z: dist.Stable(s(1.5), s(0.3), s(0.7), z), s(0.9)),
    "StableWithLogProb": (lambda z: dist.StableWithLogProb(s(1.5), s(0.3), s(0.7), z), s(0.9)),
    "StudentT": (lambda z: dist.StudentT(s(4.0), z, s(0.7)), s(0.9)),
    "TransformedDistribution": (
        lambda z: dist.TransformedDistribution(dist.Gamma(s(2.5), z.exp()), [T.ExpTransform()]),
        s(2.9),
    ),
    "Uniform": (lambda z: dist.Uniform(s(-3.0), z.exp()), s(0.4)),
    "VonMises": (lambda z: dist.VonMises(z, s(2.0)), s(0.4)),
    "VonMises3D": (
        lambda z: dist.VonMises3D(torch.stack([z.exp(), 0.3 * z, s(0.5) + 0 * z])),
        t(0.6, 0.0, 0.8),
    ),
    "Weibull": (lambda z: dist.Weibull(z.exp(), s(1.4)), s(0.9)),
    "Wishart": (lambda z: dist.Wishart(s(4.0), covariance_matrix=z.exp() * EYE), CORRELATED),
    "ZeroInflatedDistribution": (
        lambda z: dist.ZeroInflatedDistribution(dist.Poisson(z.exp()), gate=s(0.3)),
        s(0.0),
    ),
    "ZeroInflatedNegativeBinomial": (
        lambda z: dist.ZeroInflatedNegativeBinomial(s(2.5), logits=z, gate=s(0.3)),
        s(4.0),
    ),
    "ZeroInflatedPoisson": (lambda z: dist.ZeroInflatedPoisson(z.exp(), gate=s(0.3)), s(3.0)),
}

# name: the prior of a latent, of one or two numbers
PRIORS = {
    "AffineBeta": lambda: dist.AffineBeta(s(2.0), s(3.0), s(-1.0), s(3.0)),
    "AsymmetricLaplace": lambda: dist.AsymmetricLaplace(s(0.3), s(0.8), s(1.5)),
    "Beta": lambda: dist.Beta(s(2.0), s(3.0)),
    "Cauchy": lambda: dist.Cauchy(s(0.3), s(0.7)),
    "Chi2": lambda: dist.Chi2(s(3.0)),
    "ContinuousBernoulli": lambda: dist.ContinuousBernoulli(logits=s(0.4)),
    "Dirichlet": lambda: dist.Dirichlet(t(2.0, 3.0, 1.5)),
    "Exponential": lambda: dist.Exponential(s(1.3)),
    "FisherSnedecor": lambda: dist.FisherSnedecor(s(5.0), s(8.0)),
    "FoldedDistribution": lambda: dist.FoldedDistribution(dist.Normal(s(0.5), s(0.7))),
    "Gamma": lambda: dist.Gamma(s(2.5), s(1.3)),
    "GeneralizedPareto": lambda: dist.GeneralizedPareto(s(0.0), s(0.8), s(0.2)),
    "Gumbel": lambda: dist.Gumbel(s(0.3), s(0.7)),
    "HalfCauchy": lambda: dist.HalfCauchy(s(0.7)),
    "HalfNormal": lambda: dist.HalfNormal(s(0.9)),
    "InverseGamma": lambda: dist.InverseGamma(s(3.5), s(2.3)),
    "Kumaraswamy": lambda: dist.Kumaraswamy(s(2.0), s(1.5)),
    "LKJ": lambda: dist.LKJ(2, s(1.5)),
    "LKJCholesky": lambda: dist.LKJCholesky(2, s(1.5)),
    "Laplace": lambda: dist.Laplace(s(0.3), s(0.7)),
    "LogNormal": lambda: dist.LogNormal(s(0.3), s(0.5)),
    "Logistic": lambda: dist.Logistic(s(0.3), s(0.7)),
    "LogisticNormal": lambda: dist.LogisticNormal(t(0.3, -0.2), t(0.7, 0.9)),
    "LowRankMultivariateNormal": lambda: dist.LowRankMultivariateNormal(
        t(0.3, -0.2), t(0.3, -0.2)[:, None], t(0.5, 0.8)
    ),
    "MixtureOfDiagNormals": lambda: dist.MixtureOfDiagNormals(
        torch.stack([t(0.8, 0.3), t(-0.8, 0.1)]), torch.ones(2, 2, dtype=D) * 0.5, t(0.3, 0.7)
    ),
    "MixtureOfDiagNormalsSharedCovariance": lambda: dist.MixtureOfDiagNormalsSharedCovariance(
        torch.stack([t(0.8, 0.3), t(-0.8, 0.1)]), t(0.5, 0.6), t(0.3, 0.7)
    ),
    "MixtureSameFamily": lambda: dist.MixtureSameFamily(
        dist.Categorical(t(0.3, 0.7)), dist.Normal(t(-0.8, 0.8), t(0.5, 0.6))
    ),
    "MultivariateNormal": lambda: dist.MultivariateNormal(t(0.3, -0.2), CORRELATED),
    "MultivariateStudentT": lambda: dist.MultivariateStudentT(
        s(5.0), t(0.3, -0.2), torch.linalg.cholesky(CORRELATED)
    ),
    "Normal": lambda: dist.Normal(s(0.3), s(0.7)),
    "OMTMultivariateNormal": lambda: dist.OMTMultivariateNormal(
        t(0.3, -0.2), torch.linalg.cholesky(CORRELATED)
    ),
    "Pareto": lambda: dist.Pareto(s(0.5), s(3.0)),
    "ProjectedNormal": lambda: dist.ProjectedNormal(t(0.8, 0.3)),
    "RelaxedBernoulli": lambda: dist.RelaxedBernoulli(s(0.8), logits=s(0.3)),
    "RelaxedOneHotCategorical": lambda: dist.RelaxedOneHotCategorical(s(0.8), logits=t(0.3, -0.2, 0.0)),
    "SineBivariateVonMises": lambda: dist.SineBivariateVonMises(s(0.5), s(0.3), s(2.0), s(3.0), s(0.7)),
    "SkewLogistic": lambda: dist.SkewLogistic(s(0.3), s(0.7), s(1.4)),
    "SoftAsymmetricLaplace": lambda: dist.SoftAsymmetricLaplace(s(0.3), s(0.7), s(1.4), s(0.5)),
    "SoftLaplace": lambda: dist.SoftLaplace(s(0.3), s(0.7)),
    "Stable": lambda: dist.Stable(s(1.5), s(0.3), s(0.7), s(0.3)),
    "StudentT": lambda: dist.StudentT(s(5.0), s(0.3), s(0.7)),
    "TransformedDistribution": lambda: dist.TransformedDistribution(
        dist.Gamma(s(2.5), s(1.3)), [T.AffineTransform(s(2.0), s(1.5))]
    ),
    "TruncatedPolyaGamma": lambda: dist.TruncatedPolyaGamma(torch.ones((), dtype=D)),
    "Uniform": lambda: dist.Uniform(s(-1.0), s(2.0)),
    "VonMises": lambda: dist.VonMises(s(0.3), s(2.0)),
    "VonMises3D": lambda: dist.VonMises3D(t(1.2, 0.3, 0.5)),
    "Weibull": lambda: dist.Weibull(s(0.9), s(1.8)),
    "Wishart": lambda: dist.Wishart(s(5.0), covariance_matrix=EYE),
}

SAMPLELESS = ("GroupedNormalNormal", "LogNormalNegativeBinomial", "VonMises3D")
PRIORS.pop("VonMises3D")
# which are refused by name: no density of float64, none at all, or another shape than their values have
REFUSED = {
    "GeneralizedPareto": "GeneralizedPareto .*has no density",
    "GroupedNormalNormal": "the data have shape",  # of which it says another
    "LinearHMM": "LinearHMM has no log_prob",
}
