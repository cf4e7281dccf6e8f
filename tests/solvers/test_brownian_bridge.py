"""The law of the parts of a Brownian path given the whole, without Monte Carlo."""

import math

import numpy as np
import pytest

from sdeppl.solvers.brownian import Piece, divide, join


@pytest.mark.parametrize("p", [0.5, 1 / 3, 0.9, 1e-3])
@pytest.mark.parametrize("length", [1.0, 0.07, 5.0])
def test_the_parts_have_the_law_of_two_brownian_paths(p, length):
    """Without Monte Carlo: the map from (W, H, z, n) to (W₁, H₁, W₂, H₂) is read off on the basis."""
    W, H, z, n = np.eye(4)
    left, right = divide(Piece(length, W, H), p, z.copy(), n.copy())
    M = np.stack([left.W, left.H, right.W, right.H])
    given = np.diag([length, length / 12, 1.0, 1.0])
    a, b = p * length, (1 - p) * length
    np.testing.assert_allclose(
        M @ given @ M.T, np.diag([a, a / 12, b, b / 12]), atol=1e-14 * length, rtol=1e-12
    )
    whole = join(left, right)
    np.testing.assert_allclose(np.stack([whole.W, whole.H]), np.eye(4)[:2], atol=1e-14)
    assert (left.length, right.length) == pytest.approx((a, b), rel=1e-14)


@pytest.mark.parametrize("p", [0.5, 1 / 3, 0.9])
def test_the_parts_have_the_law_of_two_brownian_paths_without_area(p):
    W, z = np.eye(2)
    left, right = divide(Piece(0.7, W), p, z.copy())
    M = np.stack([left.W, right.W])
    np.testing.assert_allclose(M @ np.diag([0.7, 1.0]) @ M.T, 0.7 * np.diag([p, 1 - p]), atol=1e-14)
    assert left.H is right.H is None


def test_the_midpoint_is_foster_oberhauser_and_lyons():
    """W_{s,m} = W/2 + 3/2 H + Z, H_{s,m} = H/4 - Z/2 + N/2, H_{m,t} = H/4 - Z/2 - N/2.

    Var Z = h/16 and Var N = h/12; the signs of Z and N are a convention.
    """
    h, W, H, z, n = 0.3, 1.3, -0.2, 0.7, -1.1
    left, right = divide(Piece(h, W, H), 0.5, np.array(z), np.array(n))
    Z, N = z * math.sqrt(h / 16), n * math.sqrt(h / 12)
    found = [left.W, right.W, left.H, right.H]
    increments = [W / 2 + 1.5 * H + Z, W / 2 - 1.5 * H - Z]
    np.testing.assert_allclose(found, [*increments, H / 4 - Z / 2 + N / 2, H / 4 - Z / 2 - N / 2], rtol=1e-14)
