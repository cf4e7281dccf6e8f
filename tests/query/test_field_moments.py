"""What held-out draws of a field say of a fit: nats that are known, false alarms, and what is not to be
trusted."""

import math
import warnings

import numpy as np
import pyro
import pytest
import torch
from test_structure import draws_of, power_law

import sdeppl as sp
from sdeppl.linalg import Grid, Spectral, Stationary
from sdeppl.query import GaussianPart, check_fit
from sdeppl.query.field_moments import _of_groups as of_groups
from sdeppl.query.field_moments import field_moments, seen_of, shared

TORUS = Grid(periodic=True)


def stationary(spectrum):
    return Stationary(TORUS.of(spectrum.shape), torch.tensor(spectrum).reshape(-1))


def rows(spectrum, n, seed=0):
    return torch.tensor(draws_of(spectrum, n, np.random.default_rng(seed))).reshape(n, -1)


def test_a_right_field_is_doubted_rarely():
    """More than 4 standard errors in at most 2 of 200 fields of 16 x 16 numbers, 60 draws each (1 in 600 was
    measured; more than 2 have a probability of .5% then)."""
    spectrum = power_law((16, 16))
    covariance = stationary(spectrum)
    found = [field_moments(rows(spectrum, 60, seed), covariance, covariance.field) for seed in range(200)]
    ratios = np.array([nats / noise for nats, noise in found])
    assert np.sum(ratios > 4) <= 2
    assert abs(np.mean(ratios)) < 0.3


@pytest.mark.parametrize("kind", ["spectrum", "blocks", "mean", "all entries"])
def test_nats_of_moments_that_are_off_are_the_divergence(kind):
    """24 x 24 numbers, 3,000 draws; within 20% and 5 standard errors of none."""
    spectrum, rng = power_law((24, 24)), np.random.default_rng(4)
    x, dim = rows(spectrum, 3_000, 5), 576
    covariance = stationary(spectrum)
    if kind == "spectrum":  # 15% too much at long waves
        low = spectrum > spectrum.max() / 4
        covariance = stationary(np.where(low, 1.15 * spectrum, spectrum))
        exact = 0.5 * np.sum(low) * (1 / 1.15 - 1 + math.log(1.15))
    elif kind == "blocks":  # a corner of 12 x 12 that is louder, after whitening
        louder = np.ones((24, 24))
        louder[:12, :12] = 1.1
        white = covariance.map(lambda values: values**-0.5).matvec(x)
        x = covariance.sqrt().matvec(white * torch.tensor(louder.reshape(-1)))
        exact = 0.5 * 144 * (1.21 - 1 - math.log(1.21))
    elif kind == "mean":
        white = 0.1 * torch.tensor(rng.standard_normal(dim))
        x = x + covariance.sqrt().matvec(white)
        exact = 0.5 * float((white**2).sum())
    else:  # three directions at random
        U = torch.linalg.qr(torch.tensor(rng.standard_normal((dim, 3))))[0]
        more = torch.tensor([3.0, 2.0, 1.5], dtype=torch.float64)
        white = covariance.map(lambda values: values**-0.5).matvec(x)
        x = covariance.sqrt().matvec(white + (white @ U * (more.sqrt() - 1)) @ U.T)
        exact = float((more - 1) @ (more - 1)) / 4  # to second order, as the check has it
    nats, noise = field_moments(x, covariance, covariance.field)
    assert nats == pytest.approx(exact, rel=0.2, abs=5 * noise)
    assert nats > 4 * noise


def test_low_rank_covariances_are_checked_too():
    rng = np.random.default_rng(0)
    U = torch.linalg.qr(torch.tensor(rng.standard_normal((144, 2))))[0]
    held = Spectral(U, torch.tensor([9.0, 4.0]).double(), torch.ones(1).double())
    x = held.sqrt().matvec(torch.tensor(rng.standard_normal((2_000, 144))))
    field = Grid(boundary="open").of((12, 12))
    nats, noise = field_moments(x, held, field)
    assert abs(nats) < 4 * noise
    wrong = Spectral(U[:, :1], torch.tensor([9.0]).double(), torch.ones(1).double())
    nats, noise = field_moments(x, wrong, field)
    assert nats == pytest.approx(9 / 4, rel=0.2)  # (4 - 1)²/4


def test_some_numbers_stand_for_a_field_evenly():
    field = Grid(periodic=True).of((64, 64))
    seen = seen_of(field, 500).numpy()
    assert len(seen) <= 500 and len(np.unique(seen % 64)) > 30 and len(np.unique(seen // 64)) == 64
    assert len(seen_of(field, 5_000)) == 4_096


def checked(sampler, shape, grid, draws=400):
    """The fit check of a guide without a network."""

    def model():
        pyro.sample("field", sp.Simulated(sampler, shape=shape))

    guide = sp.ScoreGuide(model, net=None, layout={"field": grid}, seed=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sp.UntrustedWarning)
        guide.fit_gaussian(draws, progress=False)
    return guide.fit_check


SPECTRUM = power_law((64, 64))


def gaussian(n, rng):
    return 3 + 2 * draws_of(SPECTRUM, n, rng)


def test_a_gaussian_field_is_trusted():
    """64 x 64 numbers: false alarms are at most 1 in 500 (moments) and 1 in 1,000 (functions)."""
    fit = checked(gaussian, (64, 64), TORUS)
    assert fit.state == "trusted", fit.words
    assert fit.structure == "field stationary" and fit.dim == 4_096
    assert sp.FitCheck.from_dict(fit.to_dict()) == fit
    old = {name: one for name, one in fit.to_dict().items() if name != "structure"}
    assert sp.FitCheck.from_dict(old).structure == ""


def test_what_is_not_gaussian_is_not_trusted():
    for sampler in (
        lambda n, rng: np.exp(0.3 * gaussian(n, rng)),
        lambda n, rng: np.sign(gaussian(n, rng) - 4),
    ):
        fit = checked(lambda n, rng, one=sampler: one(n, rng), (64, 64), TORUS)
        assert fit.state == "do not trust"
        assert "nats of what is not Gaussian (at its most in 'field'" in fit.verdict


def test_what_is_not_stationary_is_not_trusted_where_it_is_held_so():
    """Half of a torus whose sides are said to meet, and correlations that are longer in the middle."""
    twice = power_law((64, 32), reach=6.0)
    fit = checked(
        lambda n, rng: draws_of(twice, n, rng)[:, :32], (32, 32), Grid(periodic=True, covariance="stationary")
    )
    assert fit.state == "do not trust" and "nats of moments" in fit.verdict
    assert "otherwise than as field stationary (Grid(covariance=...))" in fit.verdict
    smooth, rough = power_law((32, 32), reach=2.0), power_law((32, 32), reach=8.0)
    share = np.sin(np.pi * np.arange(32) / 32)[:, None] ** 2

    def mixed(n, rng):
        return np.sqrt(share) * draws_of(smooth, n, rng) + np.sqrt(1 - share) * draws_of(rough, n, rng)

    fit = checked(mixed, (32, 32), Grid(periodic=True, covariance="stationary"))
    assert fit.state == "do not trust" and "nats of moments" in fit.verdict


def test_a_field_and_plain_numbers_are_checked_together():
    """The number that is not Gaussian is named, beside a field that is."""
    import pyro.distributions as dist

    def model():
        pyro.sample("level", dist.Gumbel(torch.tensor(0.0).double(), 1.0))
        pyro.sample("field", sp.Simulated(lambda n, rng: draws_of(small, n, rng), shape=(16, 16)))

    small = power_law((16, 16))
    guide = sp.ScoreGuide(model, net=None, layout={"field": TORUS}, seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sp.UntrustedWarning)
        guide.fit_gaussian(8_000, progress=False)
    fit = guide.fit_check
    assert fit.site == "level" and fit.state == "do not trust"


def with_network(spectrum, exact, draws=256, seed=0):
    """The check of a network, for which the Gaussian denoiser of another spectrum stands, beside a Gaussian
    part that is right."""
    covariance = stationary(exact)
    zeros, ones = torch.zeros(exact.size).double(), torch.ones(exact.size).double()
    gaussian = GaussianPart(zeros, ones, covariance, 1_000, "field stationary")
    denoiser = sp.GaussianDenoiser(sp.VPSDE(), zeros, stationary(spectrum))

    class Space:
        dim = exact.size
        sites = (type("Site", (), {"name": "field", "start": 0, "stop": exact.size}),)

    fields = {"field": TORUS.of(exact.shape)}
    return check_fit(Space(), gaussian, denoiser, "used", rows(exact, draws, seed), seed, fields=fields)


def test_a_network_is_tested_at_long_waves_too():
    """Nine of 1,024 wavenumbers are expected to vary a quarter as much as they do: functions of single
    numbers hardly see it. p of the right one is at most 1e-3 in 1 of 1,000 runs."""
    exact = power_law((32, 32), reach=8.0)
    assert with_network(exact, exact).p > 1e-3
    wrong = exact.copy()
    wrong[np.ix_([-1, 0, 1], [-1, 0, 1])] /= 4
    fit = with_network(wrong, exact)
    assert fit.p < 1e-6 and fit.state == "do not trust" and fit.site == "field"
    # of a mode the divergence is (4 - 1 - ln 4)/2
    assert fit.worst == pytest.approx((3 - math.log(4)) / 2, rel=0.6)


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_a_field_and_its_unknown_mean_are_not_independent(share):
    """Of a field of 16 x 16 numbers whose mean is another site: held to be independent, that site would not
    learn of the field. Above 4 standard errors of chance in at most 1 of 500 runs where they are."""
    small = power_law((16, 16))

    def model():
        level = pyro.sample("level", pyro.distributions.Normal(torch.tensor(2.0).double(), 3.0))

        def fields(n, rng, level):
            return share * np.asarray(level).reshape(-1, 1, 1) + draws_of(small, n, rng)

        pyro.sample("field", sp.Simulated(fields, shape=(16, 16), given={"level": level}))

    guide = sp.ScoreGuide(model, net=None, layout={"field": TORUS}, latents=["level", "field"], seed=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sp.UntrustedWarning)
        guide.fit_gaussian(1_000, progress=False)
    fit = guide.fit_check
    if not share:
        assert fit.between == 0 and fit.state == "trusted", fit.words
        return
    # the field's mean is share · level + noise of variance λ_0/256
    exact = math.sqrt((0.9**2) / (0.9**2 + small[0, 0] / 256))
    assert fit.state == "do not trust" and "between sites 'level' and 'field'" in fit.verdict
    assert math.sqrt(2 * fit.between) == pytest.approx(exact, abs=0.1)


def test_what_two_sites_share_is_told_from_chance():
    """|S|²/2 a number for white numbers of which two pairs correlate by .5; 2,000 draws, 5 errors."""
    rng = np.random.default_rng(1)
    a, b = torch.tensor(rng.standard_normal((2_000, 4))), torch.tensor(rng.standard_normal((2_000, 9)))
    nats, noise = shared(a, b)
    assert abs(nats) < 5 * noise
    b[:, :2] = 0.5 * a[:, :2] + math.sqrt(0.75) * b[:, :2]
    assert shared(a, b)[0] == pytest.approx(2 * 0.25 / 2 / 4, abs=0.02)


def test_chance_of_groups_of_entries_is_as_stated():
    """2,000 times 60 draws of 40 white numbers in 5 groups: the nats have mean 0 and the standard deviation
    that is told, to 15%, five standard errors of it."""
    rng, number = np.random.default_rng(8), torch.arange(40) // 8
    powers = (torch.tensor(rng.standard_normal((60, 40)) ** 2 - 1) for _ in range(2_000))
    found = np.array([of_groups(power, number) for power in powers])
    told = math.sqrt(np.mean(found[:, 1] ** 2))
    assert abs(found[:, 0].mean()) < 5 * told / math.sqrt(2_000)
    assert found[:, 0].std() == pytest.approx(told, rel=0.15)
