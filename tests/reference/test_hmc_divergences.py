"""Divergences: where they begin, and that what the verdict advises ends them. Seed 4."""

import importlib
from pathlib import Path

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.reparam import LocScaleReparam

import sdeppl as sp
from sdeppl.reference.given import condition_model
from sdeppl.reference.hmc import place_of

D = torch.float64


def test_divergences_are_placed_and_the_advice_ends_them(monkeypatch):
    """Eight schools centred, a funnel at small tau; with reparam=, as advised, the same model is trusted."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    schools = importlib.import_module("references")
    data = {"y": schools.EFFECTS}
    with pytest.warns(sp.reference.ChainWarning, match=r"divergences.* mostly where 'tau' is.*reparam="):
        bad = sp.reference.hmc(schools.centred, data, seed=4, progress=False)
    assert bad.verdict.startswith("do not trust") and bad.divergences > 0
    good = sp.reference.hmc(
        schools.centred, data, seed=4, progress=False, reparam={"theta": LocScaleReparam(0.0)}
    )
    assert good.verdict.startswith("trusted") and not good.divergences and not good.place and not good.advice
    columns = schools.schools_columns({name: values.numpy() for name, values in good.draws.items()})
    for name, (mean, sd) in schools.exact_schools().items():
        assert abs(columns[name].mean() - mean) < 0.05 * sd, name
        assert abs(columns[name].std() / sd - 1) < 0.05, name


def test_the_place_of_divergences_by_hand():
    """A site of a bijection that falls, an index, starts like all draws, and none."""

    def model(y=None):
        pyro.sample("a", dist.Normal(torch.zeros(2, 3, dtype=D), 1.0).to_event(2))
        below = dist.TransformedDistribution(
            dist.Normal(torch.tensor(0.0, dtype=D), 1.0),
            [dist.transforms.ExpTransform(), dist.transforms.AffineTransform(0.0, -1.0)],
        )
        pyro.sample("b", below)
        pyro.sample("y", dist.Normal(torch.zeros((), dtype=D), 1.0), obs=y)

    space, _ = condition_model(model, {"y": torch.tensor(0.0, dtype=D)})
    z = torch.randn((5_000, 7), dtype=D, generator=torch.Generator().manual_seed(0))
    assert place_of(space, z, z[:0]) == "" and place_of(space, z, z[:200]) == ""
    starts = z[:20].clone()
    starts[:, 4] += 6
    assert place_of(space, z, starts) == "mostly where 'a[1, 1]' is large"
    starts[:, 6] = -9
    value = space.unflatten(starts[:1])["b"] - space.unflatten(z[:1] * 0)["b"]
    assert place_of(space, z, starts) == f"mostly where 'b' is {'small' if value < 0 else 'large'}"
    assert place_of(space, z, starts[:1]).startswith("mostly where 'b'")
