"""ln p(y) by importance sampling around draws, and what it finds wrong with them."""

import math

import numpy as np
import pytest
from checks import array
from scipy import stats

import sdeppl as sp
from sdeppl.backend import Noise
from sdeppl.posterior.hamiltonian import NOT_WEIGHED, _Numbers, weigh

LN_P = -7.3  # ln p(y), by which each normalised density here is multiplied


def weighed(backend, log_prob, draws, seed):
    """NumPy's log_prob of rows, on any backend; draws are independent, chains started at 125 wide ones."""
    numbers = _Numbers(Noise(seed).stream(backend))
    starts = array(np.random.default_rng(seed).normal(0.5, 2.5, (125, draws.shape[1])), backend)

    def on_arrays(x):
        return array(log_prob(np.asarray(sp.backend.to_host(x), dtype=float)), backend)

    return weigh(on_arrays, starts, array(draws, backend), len(draws), numbers)


def skewed(x):
    """ln of a Gamma(2.5, 3) number, and a normal one about it of variance 0.16."""
    first = stats.gamma(2.5, scale=1 / 3).logpdf(np.exp(x[:, 0])) + x[:, 0]
    return LN_P + first + stats.norm(1 + 0.7 * x[:, 0], 0.4).logpdf(x[:, 1])


def of_skewed(count, rng):
    first = np.log(rng.gamma(2.5, 1 / 3, count))
    return np.stack([first, 1 + 0.7 * first + 0.4 * rng.normal(size=count)], axis=1)


@pytest.mark.once
def test_the_evidence_of_a_skewed_posterior(precise):
    """Seed 1; five standard errors."""
    found = weighed(precise, skewed, of_skewed(4_000, np.random.default_rng(1)), 1)
    assert found.reasons == () and found.worth > 1_000
    assert 0.003 < found.error < 0.03 and abs(found.log_evidence - LN_P) < 5 * found.error
    assert f"ln p(y) = {found.log_evidence:.3f}" in found.words


def test_the_error_is_what_it_says_and_right_draws_raise_no_alarm():
    """100 repetitions, seeds 0 to 99: mean square of the errors in standard errors within 5 of its own
    deviations √(2/100); four figures each at 5 standard errors."""
    numpy, errors = sp.resolve("numpy"), []
    for seed in range(100):
        found = weighed(numpy, skewed, of_skewed(1_000, np.random.default_rng(seed)), seed)
        assert found.reasons == ()
        errors.append((found.log_evidence - LN_P) / found.error)
    assert abs(np.mean(np.square(errors)) - 1) < 5 * math.sqrt(2 / 100)
    assert abs(np.mean(errors)) < 0.5


def two_bells(x, share=0.8):
    """At (0, 0) and (4, 0), of width 0.3."""
    bells = [stats.multivariate_normal([m, 0.0], 0.09 * np.eye(2)).logpdf(x) for m in (0.0, 4.0)]
    return LN_P + np.logaddexp(math.log(share) + bells[0], math.log(1 - share) + bells[1])


def of_two_bells(count, second, rng):
    x = 0.3 * rng.normal(size=(count, 2))
    x[: round(second * count), 0] += 4.0
    return x


@pytest.mark.once
def test_a_mode_that_no_draw_has_found(precise):
    """A fifth of the posterior; points as wide as the starts find it. Seed 2."""
    found = weighed(precise, two_bells, of_two_bells(2_000, 0.0, np.random.default_rng(2)), 2)
    assert any("beyond all of them" in reason for reason in found.reasons)


@pytest.mark.parametrize(("second", "right"), [(0.2, True), (0.5, False), (0.05, False)])
@pytest.mark.once
def test_modes_of_wrong_weight(second, right, precise):
    """Seed 3; shares differ by 30 and by 10 standard errors of 2,000 draws."""
    found = weighed(precise, two_bells, of_two_bells(2_000, second, np.random.default_rng(3)), 3)
    assert (found.reasons == ()) == right
    assert right or "other moments" in found.reasons[0]


@pytest.mark.once
def test_a_thin_ring_is_no_bell_and_its_evidence_is_not_told(precise):
    """Draws are right, so nothing speaks against them. Seed 4."""
    rng = np.random.default_rng(4)
    angle, radius = rng.uniform(0, 2 * math.pi, 2_000), 2 + 0.001 * rng.normal(size=2_000)
    draws = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)

    def ring(x):
        r = np.hypot(*x.T)
        return stats.norm(2, 0.001).logpdf(r) - np.log(2 * math.pi * r)

    found = weighed(precise, ring, draws, 4)
    assert math.isnan(found.log_evidence) and found.reasons == ()
    assert "not known" in found.words


def test_a_density_that_is_zero_everywhere(precise):
    found = weighed(precise, lambda x: np.full(len(x), -np.inf), of_skewed(100, np.random.default_rng(5)), 5)
    assert found.worth == 0 and math.isnan(found.log_evidence)
    assert NOT_WEIGHED.words == "ln p(y) is not known"
