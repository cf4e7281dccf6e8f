"""Standard normals: the same on every backend, the same for every batch size, and normal.

The Kolmogorov–Smirnov tests use fixed seeds; for a fresh seed each would fail by chance with
probability 1e-4.
"""

import numpy as np
import pytest
import scipy.stats
from checks import assert_array, host

import sdeppl as sp

FALSE_ALARM = 1e-4


def test_host_noise_is_philox_keyed_by_seed_and_step(backend):
    drawn = sp.Noise(seed=11).stream(backend).normal(7, (5, 3))
    key = np.array([11, 7], dtype=np.uint64)
    expected = np.random.Generator(np.random.Philox(key=key)).standard_normal((5, 3))
    assert_array(drawn, expected, backend, tolerance=1e-7)


@pytest.mark.parametrize("rows", [1, 2, 17])
def test_host_noise_does_not_depend_on_the_batch_size(rows, backend):
    stream = sp.Noise(seed=3).stream(backend)
    few, many = (stream.normal(4, (n, 2, 3)) for n in (rows, 100))
    np.testing.assert_array_equal(host(few), host(many)[:rows])


def test_host_noise_can_be_made_again_in_any_order(backend):
    stream = sp.Noise(seed=3).stream(backend)
    fifth = host(stream.normal(5, (4,)))
    stream.normal(2, (9,))
    np.testing.assert_array_equal(host(stream.normal(5, (4,))), fifth)


@pytest.mark.parametrize("mode", ["host", "native"])
def test_seeds_and_steps_give_different_numbers(mode, backend):
    """No normal in common, for neighbouring seeds small and large, and for multiples of 2³²."""
    seeds = [0, 1, 2, 2**32, 2**62, 2**63 - 1, 2**63, 2**63 + 1, 2**64 - 2, 2**64 - 1]
    drawn = []
    for seed in seeds:
        stream = sp.Noise(seed, mode).stream(backend)
        drawn += [host(stream.normal(step, (3,))) for step in (0, 1, 2)]
    assert len({round(float(x), 12) for x in np.concatenate(drawn)}) == 3 * len(drawn)


def test_native_noise_is_reproducible(backend):
    first, second = (sp.Noise(5, "native").stream(backend) for _ in range(2))
    for step in (0, 1):
        assert_array(first.normal(step, (4, 2)), host(second.normal(step, (4, 2))), backend, tolerance=0.0)


@pytest.mark.parametrize("mode", ["host", "native"])
def test_noise_is_standard_normal(mode, backend):
    stream = sp.Noise(seed=1, mode=mode).stream(backend)
    drawn = np.stack([host(stream.normal(step, (20_000,))) for step in (0, 1)])
    assert scipy.stats.kstest(drawn.ravel(), "norm").pvalue > FALSE_ALARM
    correlation = float(np.mean(drawn[0] * drawn[1]) * np.sqrt(drawn.shape[1]))
    assert abs(correlation) < scipy.stats.norm.isf(FALSE_ALARM / 2)


def test_noise_comes_in_the_dtype_and_on_the_device_of_the_backend(backend):
    for mode in ("host", "native"):
        drawn = sp.Noise(2, mode).stream(backend).normal(1, (2, 3))
        assert_array(drawn, host(drawn), backend, tolerance=0.0)


@pytest.mark.parametrize("seed", [-1, 2**64, 1.0, True, "1"])
def test_a_bad_seed_is_refused(seed):
    with pytest.raises(ValueError, match=r"seed must be a whole number from 0 to 2\*\*64 - 1; got"):
        sp.Noise(seed)


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="noise mode 'gpu' is unknown; use 'host' or 'native'"):
        sp.Noise(0, "gpu")


def test_noise_for_whole_numbers_is_refused():
    """Cast to the dtype of integer arrays, every normal would become 0, 1, …"""
    with pytest.raises(TypeError, match="a real floating dtype; got numpy on cpu in int64"):
        sp.Noise().stream(sp.backend.backend_of(np.zeros(3, dtype=np.int64)))
