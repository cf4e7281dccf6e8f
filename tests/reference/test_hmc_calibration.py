"""Simulation-based calibration of the chain-vectorised HMC on a conjugate model: ranks are uniform.

Source: Talts et al. 2018. 640 data sets in 16 runs, seeds 0 to 15; false alarm at p < .001.
"""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy.stats import chisquare

import sdeppl as sp

D = torch.float64
SETS, RUNS, CHAINS = 40, 16, 69


def counts(shape):
    """40 data sets at once, each a rate and two counts."""

    def model(y=None):
        with pyro.plate("sets", SETS):
            rate = pyro.sample("rate", dist.Gamma(torch.tensor(shape, dtype=D), 0.5))
            pyro.sample("y", dist.Poisson(rate[:, None].expand(SETS, 2)).to_event(1), obs=y)

    return model


@pytest.fixture(scope="module")
def ranks_of():
    def ranks(shape):
        found = []
        for seed in range(RUNS):
            rng = np.random.default_rng(seed)
            truth = rng.gamma(2.5, 2.0, SETS)
            y = torch.as_tensor(rng.poisson(truth[:, None], (SETS, 2)), dtype=D)
            run = sp.reference.hmc(
                counts(shape), {"y": y}, chains=CHAINS, draws=4, warmup=60, seed=seed, progress=False
            )
            last = run.draws["rate"].reshape(CHAINS, 4, SETS)[:, -1].numpy()  # one of each chain: independent
            found.append((last < truth).sum(axis=0))
        return np.concatenate(found)

    return ranks


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:HMC. ")
@pytest.mark.filterwarnings("ignore:the model cannot be run")
def test_ranks_are_uniform_and_a_wrong_prior_is_found(ranks_of):
    """70 ranks in 10 bins; a prior of shape 4 in place of 2.5 moves them."""
    right, wrong = (np.bincount(ranks_of(shape) // 7, minlength=10) for shape in (2.5, 4.0))
    assert right.sum() == SETS * RUNS and len(right) == 10
    assert chisquare(right).pvalue > 1e-3, right
    assert chisquare(wrong).pvalue < 1e-4, wrong
