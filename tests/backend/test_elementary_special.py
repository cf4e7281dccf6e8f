"""Special functions that the Array API lacks, against SciPy's in float64."""

import math

import numpy as np
import pytest
from checks import array, assert_array, host
from scipy import special

from sdeppl.backend import lgamma, log_ndtr

NUMBERS = np.array([[0.1, 0.5, 1.0, 2.5], [7.0, 30.0, 171.0, 1e4]])


def test_lgamma(backend):
    x = array(NUMBERS, backend)
    assert_array(lgamma(x), special.gammaln(NUMBERS), backend)
    assert lgamma(4.5) == math.lgamma(4.5)


@pytest.mark.parametrize("z", [-1e4, -300.0, -40.0, -6.0, -1.0, 0.0, 0.5, 3.0])
def test_log_ndtr_one_number_at_a_time(z, backend):
    """In the far left tail -z²/2 - ln(-z √(2π)) - 1/z² + …, which SciPy is checked against too."""
    expected = special.log_ndtr(z)
    if z < -30:
        series = (
            -0.5 * z * z
            - math.log(-z * math.sqrt(2 * math.pi))
            + math.log1p(-(z**-2) + 3 * z**-4 - 15 * z**-6)
        )
        assert expected == pytest.approx(series, rel=1e-12)
    assert_array(log_ndtr(array([z], backend)), [expected], backend)


def test_log_ndtr_at_infinity_and_far_right(backend):
    found = log_ndtr(array([-math.inf, 40.0, math.inf], backend))
    assert found.dtype == backend.dtype
    assert host(found)[0] == -math.inf
    np.testing.assert_allclose(host(found)[1:], 0.0, atol=1e-30)
