"""Moments of fields by structure against those of the fields the draws are made of."""

import math

import numpy as np
import pytest
import torch

from sdeppl.linalg import Grid, Spectral, Stationary
from sdeppl.query.spectrum import PowerSums, stationary, wavenumbers
from sdeppl.query.structure import estimate_field

TORUS, LINE = Grid(periodic=True), Grid()


def power_law(shape, reach=3.0, slope=-3.0):
    lengths = wavenumbers(TORUS.of(shape)).numpy().reshape(shape)
    spectrum = (1 + (lengths / reach) ** 2) ** (slope / 2)
    return spectrum / spectrum.mean()


def draws_of(spectrum, n, rng):
    white = rng.standard_normal((n, *spectrum.shape))
    axes = tuple(range(1, white.ndim))
    return np.fft.ifftn(np.sqrt(spectrum) * np.fft.fftn(white, axes=axes), axes=axes).real


def fitted(sampler, shape, grid, n, seed=0, at_once=200):
    """Fresh draws in each pass."""

    def batches(number):
        rng = np.random.default_rng([seed, number])
        for first in range(0, n, at_once):
            yield torch.tensor(sampler(min(at_once, n - first), rng)).reshape(-1, math.prod(shape))

    return estimate_field(batches, grid.of(shape), grid, n)


def covariance_of(found):
    """Of the numbers themselves, in full."""
    _, scale, covariance, _ = found
    return (scale[:, None] * covariance.dense() * scale).numpy()


def divergence(spectrum, found):
    """KL between stationary fields, nats."""
    _, scale, covariance, _ = found
    ratio = (scale**2 * covariance.spectrum).numpy() / spectrum.reshape(-1)
    return 0.5 * np.sum(ratio - 1 - np.log(ratio))


def test_a_stationary_field_of_few_draws():
    """32 x 32 numbers of 200 draws; unsmoothed the divergence would be 1,024/(4 · 200) = 1.3 nats."""
    spectrum = power_law((32, 32))
    found = fitted(lambda n, rng: 3 + 2 * draws_of(spectrum, n, rng), (32, 32), TORUS, 200)
    location, _, covariance, words = found
    assert isinstance(covariance, Stationary) and words.startswith("stationary (smoothed")
    assert divergence(4 * spectrum, found) < 0.25
    # the mean's deviation is 2 √(λ_0/1,024/180)
    assert torch.all(location == location[0])
    assert float(location[0]) == pytest.approx(3, abs=4 * 2 * math.sqrt(spectrum[0, 0] / 1_024 / 180))


def test_smoothing_never_costs_much_where_the_spectrum_is_rough():
    """A ridge one wavenumber wide, ten times what is about it: kept, with other noise smoothed away."""
    spectrum = power_law((32, 32))
    spectrum[5, :] *= 10
    spectrum[-5, :] *= 10
    found = fitted(
        lambda n, rng: draws_of(spectrum, n, rng), (32, 32), Grid(periodic=True, covariance="stationary"), 400
    )
    assert divergence(spectrum, found) < 1.1 * 1_024 / (4 * 360)
    ratio = (found[1] ** 2 * found[2].spectrum).numpy().reshape(32, 32)[5, 8:16] / spectrum[5, 8:16]
    assert np.mean(ratio) == pytest.approx(1, abs=0.2)


def test_reflecting_ends():
    """A field that goes on as its mirror image: even draws on a torus of twice the length, halved."""
    spectrum = power_law((24,), reach=2.0)

    def sampler(n, rng):
        from scipy.fft import idct

        return idct(np.sqrt(spectrum) * rng.standard_normal((n, 24)), norm="ortho") - 1.0

    found = fitted(sampler, (24,), LINE, 2_000)
    assert isinstance(found[2], Stationary)
    assert divergence(spectrum, found) < 24 / (2 * 1_600)


def test_channels_with_their_cross_spectrum():
    """The second is three times the first, moved by four sites, and noise: correlations within .03."""
    spectrum = power_law((64,), reach=2.0)

    def sampler(n, rng):
        first, other = draws_of(spectrum, n, rng), draws_of(spectrum, n, rng)
        return np.stack([first + 5, 3 * (0.8 * np.roll(first, 4, axis=1) + 0.6 * other)], axis=1)

    grid = Grid(channels=1, periodic=True, covariance="stationary")
    found = fitted(sampler, (2, 64), grid, 4_000)
    exact = np.fft.ifft(spectrum).real
    covariance = covariance_of(found)
    for lag in range(64):
        np.testing.assert_allclose(covariance[10, (10 + lag) % 64], exact[lag], atol=0.06)
        np.testing.assert_allclose(covariance[10, 64 + (10 + lag) % 64], 2.4 * exact[lag - 4], atol=0.15)
        np.testing.assert_allclose(covariance[64 + 10, 64 + (10 + lag) % 64], 9 * exact[lag], atol=0.5)
    np.testing.assert_allclose(np.sort(np.unique(found[0].numpy())), [0, 5], atol=0.3)
    assert np.min(np.linalg.eigvalsh(covariance)) > 0


def test_means_and_scales_that_differ_with_stationary_correlation():
    spectrum = power_law((32, 32))
    x = np.linspace(0, 1, 32)[:, None]
    mean, scale = np.sin(6 * x) * np.ones(32), (0.3 + x) * np.ones(32)
    found = fitted(lambda n, rng: mean + scale * draws_of(spectrum, n, rng), (32, 32), TORUS, 2_000)
    assert found[3].startswith("stationary but for each number's own mean and scale")
    np.testing.assert_allclose(found[0].numpy().reshape(32, 32), mean, atol=5 * 1.3 / math.sqrt(3_600))
    np.testing.assert_allclose(found[1].numpy().reshape(32, 32) / scale, 1, atol=5 / math.sqrt(2 * 1_800))
    ratio = found[2].spectrum.numpy() / spectrum.reshape(-1)
    assert 0.5 * np.sum(ratio - 1 - np.log(ratio)) < 0.3


def test_low_rank_and_a_variance_for_each_number():
    """Three patterns and noise that differs from number to number, on 60 x 50 numbers: entries within .03 of
    the product of their deviations (root mean square), and the noise within 4%."""
    rng = np.random.default_rng(3)
    patterns = rng.standard_normal((3, 3_000)) * np.array([[2.0], [1.0], [0.5]])
    noise = rng.uniform(0.2, 0.6, 3_000)
    shape, grid = (60, 50), Grid(boundary="open")

    def sampler(n, own):
        return 7 + own.standard_normal((n, 3)) @ patterns + noise * own.standard_normal((n, 3_000))

    found = fitted(sampler, shape, grid, 4_000)
    assert isinstance(found[2], Spectral) and found[3].startswith("low rank")
    assert found[2].U.shape[1] <= 8
    exact = patterns.T @ patterns + np.diag(noise**2)
    deviation = np.sqrt(np.diag(exact))
    errors = (covariance_of(found) - exact) / (deviation[:, None] * deviation)
    assert np.sqrt(np.mean(errors**2)) < 0.03 and np.max(np.abs(errors)) < 0.12
    np.testing.assert_allclose(found[1].numpy(), noise, rtol=0.25)
    assert np.sqrt(np.mean((found[1].numpy() / noise - 1) ** 2)) < 0.04


def test_few_numbers_are_held_by_all_entries_where_that_explains_draws_best():
    """Two blocks of numbers, each with its own correlations: neither stationary nor of low rank."""
    rng = np.random.default_rng(5)
    root = np.zeros((12, 12))
    root[:6, :6], root[6:, 6:] = rng.standard_normal((6, 6)), 3 * rng.standard_normal((6, 6))
    found = fitted(lambda n, own: own.standard_normal((n, 12)) @ root.T, (12,), LINE, 20_000, at_once=5_000)
    assert found[3].startswith("dense, ") and "nats a number better" in found[3]
    np.testing.assert_allclose(covariance_of(found), root @ root.T, atol=0.05 * np.max(root @ root.T))


def test_a_second_pass_is_made_only_where_it_has_something_to_add():
    spectrum, passes = power_law((32, 32)), []

    def batches(number):
        passes.append(number)
        yield torch.tensor(draws_of(spectrum, 300, np.random.default_rng(number))).reshape(-1, 1_024)

    grid = Grid(periodic=True, covariance="stationary")
    estimate_field(batches, grid.of((32, 32)), grid, 300)
    assert passes == [0]


def test_the_same_rows_in_both_passes_are_no_better_than_fresh_ones():
    """As of a data set: what is held out of the fit is held out in both passes, so that noise alone does not
    make the richer structure look better."""
    spectrum = power_law((16, 16))
    rows = torch.tensor(draws_of(spectrum, 150, np.random.default_rng(2))).reshape(150, 256)
    found = estimate_field(lambda number: iter([rows[:90], rows[90:]]), TORUS.of((16, 16)), TORUS, 150)
    assert found[3].startswith("stationary (")


@pytest.mark.parametrize(
    ("shape", "grid", "draws", "said"),
    [
        ((64, 64), Grid(covariance="dense"), 50, r"covariance='dense'.*4096 numbers.*2000.*'stationary'"),
        (
            (8, 8),
            Grid(boundary="open", covariance="stationary"),
            50,
            r"covariance='stationary'.*periodic=True",
        ),
        ((8, 8), Grid(covariance="low-rank", rank=64), 50, r"rank=64.*64 numbers.*50 draws"),
        ((8, 8), TORUS, 4, "at least 10 draws; got 4"),
    ],
    ids=["too large for dense", "open ends", "rank", "few draws"],
)
def test_what_cannot_be_made_says_so(shape, grid, draws, said):
    with pytest.raises(ValueError, match=said):
        fitted(lambda n, rng: rng.standard_normal((n, *shape)), shape, grid, draws)


def test_a_field_that_never_varies_says_so():
    with pytest.raises(ValueError, match="no number of the field varies"):
        fitted(lambda n, rng: np.full((n, 8, 8), 3.0), (8, 8), TORUS, 50)


def test_halves_and_means_of_power_sums():
    """Against NumPy: the power about the mean of each number, and about one mean for all."""
    field = TORUS.of((6, 4))
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((9, 24)) + np.arange(24)
    sums = PowerSums(field)
    sums.add(torch.tensor(rows[:4]))
    sums.add(torch.tensor(rows[4:]))
    own = np.fft.fftn(rows.reshape(9, 6, 4), axes=(1, 2), norm="ortho").reshape(9, 24)
    power = sums.power((0, 1), True)[0, 0, 0].numpy()
    np.testing.assert_allclose(power, np.var(own, axis=0, ddof=1), rtol=1e-10)
    alike = np.mean(np.abs(own) ** 2, axis=0)
    alike[0] = np.var(own[:, 0], ddof=1)
    np.testing.assert_allclose(sums.power((0, 1), False)[0, 0, 0].numpy(), alike, rtol=1e-10)
    half = sums.power((0,), True)[0, 0, 0].numpy()
    np.testing.assert_allclose(half, np.var(own[::2], axis=0, ddof=1), rtol=1e-10)
    held, words = stationary(sums, torch.ones(1).double(), True, smooth=False)
    np.testing.assert_allclose(held.spectrum.numpy(), power, rtol=1e-10)
    assert words == "not smoothed"
