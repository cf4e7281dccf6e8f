"""Gaps in the data: the guide and the references take them alike, wherever the data come from.

x ~ N(MEAN, 4 I), rows y ~ N(x, S): what a row says is H x with noise H S Hᵀ, H of the numbers that were seen.
"""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

import sdeppl as sp

D, NAN = torch.float64, math.nan
MEAN = torch.tensor([0.5, -1.0], dtype=D)
S = torch.tensor([[1.0, 0.8], [0.8, 2.0]], dtype=D)
DIAGONAL = torch.diag(S.diagonal())
ROWS = torch.tensor([[1.0, 2.0], [NAN, 1.5], [0.5, NAN], [NAN, NAN], [3.0, 2.5]], dtype=D)
FACTOR = torch.tensor([[0.8], [1.0]], dtype=D)
SHORT = {"draws": 50, "warmup": 100, "chains": 128, "progress": False, "seed": 2}


def latent():
    return pyro.sample("x", dist.MultivariateNormal(MEAN, 4 * torch.eye(2, dtype=D)))


def truth(rows, covariances):
    """Posterior mean and standard deviation."""
    precision = torch.eye(2, dtype=D) / 4
    pull = precision @ MEAN
    for row, S in zip(rows, covariances, strict=True):
        H = torch.eye(2, dtype=D)[~torch.isnan(row)]
        Q = torch.linalg.inv(H @ S @ H.mT)
        precision = precision + H.mT @ Q @ H
        pull = pull + H.mT @ Q @ row[~torch.isnan(row)]
    covariance = torch.linalg.inv(precision)
    return covariance @ pull, covariance.diagonal().sqrt()


def in_plate(fn):
    def model(y=None):
        x = latent()
        with pyro.plate("rows", 5):
            pyro.sample("y", fn(x), obs=y)

    return model


def to_event(fn):
    def model(y=None):
        pyro.sample("y", fn(latent()).expand([5]).to_event(1), obs=y)

    return model


def nested(y=None):
    x = latent()
    with pyro.plate("rows", 5, dim=-1), pyro.plate("twice", 2, dim=-2):
        pyro.sample("y", dist.MultivariateNormal(x, S), obs=y)


SCALES = torch.tensor([1.0, 0.5, 2.0, 1.0, 0.7], dtype=D)
TWICE = torch.stack([ROWS, ROWS.flip(0)])
MODELS = {
    "rows": (in_plate(lambda x: dist.MultivariateNormal(x, S)), ROWS, [S] * 5),
    "rows by precision": (
        in_plate(lambda x: dist.MultivariateNormal(x, precision_matrix=torch.linalg.inv(S))),
        ROWS,
        [S] * 5,
    ),
    "rows of other covariances": (
        in_plate(lambda x: dist.MultivariateNormal(x, SCALES[:, None, None] * S)),
        ROWS,
        list(SCALES[:, None, None] * S),
    ),
    "low rank": (
        in_plate(lambda x: dist.LowRankMultivariateNormal(x, FACTOR, torch.tensor([0.36, 1.0], dtype=D))),
        ROWS,
        [FACTOR @ FACTOR.mT + torch.diag(torch.tensor([0.36, 1.0], dtype=D))] * 5,
    ),
    "one event": (to_event(lambda x: dist.MultivariateNormal(x, S)), ROWS, [S] * 5),
    "two plates": (nested, TWICE, [S] * 10),
    "one row": (lambda y=None: pyro.sample("y", dist.MultivariateNormal(latent(), S), obs=y), ROWS[1], [S]),
    "numbers": (in_plate(lambda x: dist.Normal(x, S.diagonal().sqrt()).to_event(1)), ROWS, [DIAGONAL] * 5),
    "Pyro's rows": (in_plate(lambda x: dist.NanMaskedMultivariateNormal(x, S)), ROWS, [S] * 5),
    "Pyro's numbers": (
        in_plate(lambda x: dist.NanMaskedNormal(x, S.diagonal().sqrt()).to_event(1)),
        ROWS,
        [DIAGONAL] * 5,
    ),
    "Pyro's rows, in an event": (to_event(lambda x: dist.NanMaskedMultivariateNormal(x, S)), ROWS, [S] * 5),
}


@pytest.mark.parametrize("own", [False, True], ids=["given", "the model's own"])
@pytest.mark.parametrize("name", MODELS)
def test_exact_moments(name, own):
    """By the conditioning of the joint, which evaluates the density that `hmc` and `nuts` walk on."""
    model, y, covariances = MODELS[name]
    mean, sd = truth(y.reshape(-1, 2), covariances)
    data, kwargs = ({}, {"y": y}) if own else ({"y": y}, {})
    exact = sp.reference.exact(model, data, kwargs=kwargs, draws=64).moments["x"]
    torch.testing.assert_close(exact.mean, mean)
    torch.testing.assert_close(exact.sd, sd)


def test_log_evidence_counts_only_what_was_seen():
    """A row of which one number was seen adds that number's marginal density, and no constant."""
    model = MODELS["rows"][0]
    y = torch.full((5, 2), NAN, dtype=D)
    y[3, 1] = 1.5
    found = sp.reference.exact(model, {"y": y}, draws=64).log_evidence
    assert found == pytest.approx(
        float(dist.Normal(-1.0, math.sqrt(4 + 2)).log_prob(torch.tensor(1.5))), abs=1e-6
    )


@pytest.mark.parametrize("own", [False, True], ids=["given", "the model's own"])
@pytest.mark.parametrize("name", ["rows", "Pyro's rows", "numbers", "Pyro's numbers"])
def test_guide(name, own):
    """The closed form of the Gaussian prior: its moments are those of 20,000 draws (errors of 1.4%)."""
    model, y, covariances = MODELS[name]
    mean, sd = truth(y, covariances)
    guide = sp.ScoreGuide(model, kwargs={"y": y} if own else {})
    sp.ScoreMatching(guide, draws=20_000).fit(steps=0, progress=False)
    found = guide.condition({} if own else {"y": y}).run(2_000).draws["x"]
    assert ((found.mean(0) - mean).abs() < 0.12 * sd).all()  # 4 standard errors, and the prior's
    assert ((found.std(0) / sd - 1).abs() < 0.1).all()


@pytest.mark.parametrize("name", ["rows", "Pyro's rows"])
def test_chains(name):
    model, y, covariances = MODELS[name]
    mean, sd = truth(y, covariances)
    found = sp.reference.hmc(model, {}, kwargs={"y": y}, **SHORT).draws["x"].reshape(-1, 2)
    assert ((found.mean(0) - mean).abs() < 0.08 * sd).all()
    nuts = sp.reference.nuts(model, {}, kwargs={"y": y}, draws=4, warmup=4, chains=1, progress=False)
    assert nuts.draws["x"].shape == (4, 2)


def simplex(y=None):
    a = pyro.sample("x", dist.LogNormal(torch.tensor(0.0, dtype=D), 0.3))
    with pyro.plate("rows", 2):
        pyro.sample("y", dist.Dirichlet(torch.stack([a, a + 1, 2 * a])), obs=y)


def counts(y=None):
    a = pyro.sample("x", dist.Normal(torch.tensor(0.0, dtype=D), 0.3))
    with pyro.plate("rows", 2):
        pyro.sample("y", dist.Multinomial(4, logits=torch.stack([a, 0 * a, -a])), obs=y)


def heavy(y=None):
    a = pyro.sample("x", dist.Normal(torch.tensor(0.0, dtype=D), 0.3))
    with pyro.plate("rows", 2):
        pyro.sample(
            "y", dist.MultivariateStudentT(4.0, a * torch.ones(3, dtype=D), torch.eye(3, dtype=D)), obs=y
        )


PARTLY = torch.tensor([[0.2, 0.3, 0.5], [0.2, NAN, 0.5]], dtype=D)
WHOLE = torch.tensor([[0.2, 0.3, 0.5], [NAN, NAN, NAN]], dtype=D)
REFUSED = (simplex, counts, heavy)


@pytest.mark.parametrize("own", [False, True], ids=["given", "the model's own"])
@pytest.mark.parametrize("model", REFUSED)
def test_what_has_no_marginal_is_refused_alike(model, own):
    y = (4 * PARTLY).round() if model is counts else PARTLY
    data, kwargs = ({}, {"y": y}) if own else ({"y": y}, {})
    for reference in (sp.reference.hmc, sp.reference.nuts):
        with pytest.raises(sp.ModelError, match=r"'y' has missing entries.*cannot leave some out"):
            reference(model, data, kwargs=kwargs, progress=False)
    guide = sp.ScoreGuide(model, kwargs=kwargs)
    sp.ScoreMatching(guide, draws=500).fit(steps=0, progress=False)
    with pytest.raises(sp.ModelError, match=r"'y' has missing entries.*cannot leave some out"):
        guide.condition(data)


@pytest.mark.parametrize("model", REFUSED)
def test_whole_events_may_be_missing(model):
    """Their density is that of the data without them."""
    y = (4 * WHOLE).round() if model is counts else WHOLE
    z = torch.tensor([[-0.4], [0.0], [0.7]], dtype=D)
    space, given = sp.reference.given.condition_model(model, {"y": y})
    found = sp.tracing.potential.Potential(given, space, (), {}, prior=False)

    def alone(x):
        conditioned = pyro.poutine.trace(pyro.poutine.condition(model, data={"x": x}))
        fn = conditioned.get_trace(y=y).nodes["y"]["fn"]
        return fn.log_prob(y[:1].expand_as(y))[0]

    wanted = torch.stack([alone(space.unflatten(row)["x"]) for row in z])
    torch.testing.assert_close(torch.stack([found.log_p(row) for row in z]), wanted.reshape(-1))
