"""`compare` at sites of many numbers: what it finds, how often it finds what is not there, what it needs."""

import tracemalloc

import numpy as np
import pytest

import sdeppl as sp
from sdeppl.diagnostics.field_summary import field_summary, wavenumber_bands
from sdeppl.diagnostics.sample_summary import sample_summaries

SIDE = 48


def fields(count, seed, side=SIDE, channels=()):
    """Draws (count, *channels, side, side) of a periodic field, not of unit variance."""
    rng = np.random.default_rng(seed)
    k = np.fft.fftfreq(side, 1 / side)
    k2 = k[:, None] ** 2 + np.fft.rfftfreq(side, 1 / side) ** 2
    white = np.fft.rfft2(rng.standard_normal((count, *channels, side, side)))
    return 3.0 + 40.0 * np.fft.irfft2(white / (9 + k2), s=(side, side))


def test_two_sets_of_one_field_are_told_apart_seldom():
    """20 comparisons of 400 draws with 400, about 7 tests each of level .001: more than 2 alarms once in
    2,000 runs; seeds 0 to 39."""
    found = [
        sp.compare({"f": fields(400, 2 * k)}, {"f": fields(400, 2 * k + 1)}, seed=k, classifier=k < 3)
        for k in range(20)
    ]
    assert sum(bool(one.reasons) for one in found) <= 2
    assert all(one["f"].distance < 1.3 * one["f"].distance_floor for one in found)
    assert found[0]["f"].labels[SIDE + 2] == "[1, 2]" and len(found[0]["f"].labels) == SIDE**2


def rougher(x):
    waves = np.fft.rfft2(x)
    k = np.fft.fftfreq(SIDE, 1 / SIDE)
    high = k[:, None] ** 2 + np.fft.rfftfreq(SIDE, 1 / SIDE) ** 2 >= 16**2
    return np.fft.irfft2(waves * np.where(high, 1.1, 1.0), s=(SIDE, SIDE))


def one_pixel(x):
    x = x.copy()
    x[:, 7, 30] += 0.5 * x[:, 7, 30].std()
    return x


def wider_in_a_corner(x):
    x = x.copy()
    x[:, :9, :9] = 3.0 + 1.4 * (x[:, :9, :9] - 3.0)
    return x


def skewed(x):
    sd = x.std()
    u = (x - 3.0) / sd
    u = np.exp(0.5 * u)
    return 3.0 + sd * (u - u.mean()) / u.std()


WRONG = {
    "a spectrum": (rougher, "of ln power, |k| from 16 to 32 off by"),
    "one of 2,304 means": (one_pixel, "mean[7, 30] off by +0.5"),
    "deviations of 81": (wider_in_a_corner, "and 8"),
    "the shape of marginals": (skewed, "energy distance"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_found_and_named(what):
    change, words = WRONG[what]
    found = sp.compare({"f": change(fields(600, 100))}, {"f": fields(600, 101)}, classifier=False)
    assert not found.trusted and words in found.verdict, found.verdict


def test_a_shuffle_of_the_pixels_has_the_same_marginals_and_another_spectrum():
    x = fields(400, 7)
    order = np.random.default_rng(0).permutation(SIDE**2)
    shuffled = x.reshape(400, -1)[:, order].reshape(x.shape)
    found = sp.compare({"f": shuffled}, {"f": fields(400, 8)}, classifier=False)
    assert not [one for one in found["f"].reasons if one.startswith(("mean[", "sd["))]
    assert any("of ln power" in one for one in found["f"].reasons)


def test_moments_alone_and_constant_pixels():
    """Against exact moments: the rms error is the noise, to 5 of its standard errors over the numbers."""
    x = fields(400, 9)
    k = np.fft.fftfreq(SIDE, 1 / SIDE)
    k2 = k[:, None] ** 2 + k**2
    sd = 40.0 * np.sqrt(np.mean(1 / (9 + k2) ** 2))
    exact = sp.reference.Exact(np.full((SIDE, SIDE), 3.0), np.full((SIDE, SIDE), sd))
    found = sp.compare({"f": x}, {"f": exact})
    assert found.trusted and found["f"].tests is None
    assert found["f"].mean_error == pytest.approx(found["f"].mean_noise, rel=0.35)
    land = [fields(400, seed) for seed in (9, 10)]
    for one in land:
        one[:, :5] = 0.0
    found = sp.compare(*({"f": one} for one in land), classifier=False)
    assert found.trusted, found.verdict
    assert found.notes == ("f: 240 numbers are one constant on both sides, left out",)
    assert found["f"].labels[0] == "[5, 0]" and len(found["f"].numbers.mean) == SIDE**2 - 240


def test_channels_and_several_sites_together():
    one, other = ({"f": fields(400, s, 40, (2,)), "level": fields(400, s)[:, 0, 0]} for s in (20, 21))
    found = sp.compare(one, other, classifier=False)
    assert found.trusted, found.verdict
    assert [label for label in found["f"].told_labels if "|k| = 0" in label] == [" of ln power, |k| = 0"]
    coupled = {"f": one["f"], "level": one["f"][:, 0, 3, 3]}  # the marginals of both are right
    separate = {"f": other["f"], "level": fields(400, 22, 40, (2,))[:, 0, 3, 3]}
    assert sp.compare(coupled, separate, classifier=False).joint is not None


def test_power_of_a_wave_is_in_its_octave():
    grid = (32, 64)
    x = np.arange(64) / 64
    wave = np.cos(2 * np.pi * 11 * x) * np.ones((32, 1))
    draws = 0.01 * np.random.default_rng(0).standard_normal((50, *grid))
    sides = [sample_summaries({"f": draws + shift})["f"] for shift in (0.0, 0.0)]
    draws = draws + np.random.default_rng(1).standard_normal((50, 1, 1)) * wave
    side = sample_summaries({"f": draws})["f"]
    found = field_summary(side, sides[0], np.ones(side.mean.shape, bool), np.random.default_rng(0))
    bands, names = wavenumber_bands(grid)
    power = found.mine.mean[-len(names) :] - found.theirs.mean[-len(names) :]
    assert names[int(np.argmax(power))] == "|k| from 8 to 16" and len(bands) == 32 * 64
    assert names[0] == "|k| = 0" and np.count_nonzero(bands == 0) == 1


def test_memory_grows_with_the_draws_alone():
    """65,536 numbers: besides the draws less than 8 times the 4 million numbers taken at once, where one
    matrix of all pairs would be 34 GB."""
    one, other = ({"f": fields(60, seed, 256).astype("float32")} for seed in (0, 1))
    tracemalloc.start()
    found = sp.compare(one, other, classifier=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert not found.reasons and peak < 8 * 2**22 * 8
