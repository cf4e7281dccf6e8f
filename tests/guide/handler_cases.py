"""What each handler of Pyro makes of the chain mu → x → y, for the tests and for the table of the docs.

    mu ~ N(0, 1), x ~ N(mu, 2²), y ~ N(x, 1), y = 3: mu given y is N(1/2, 5/6), x given y and mu = 1 N(2.6, 4/5).

`python tests/guide/handler_cases.py` runs them and writes the table of docs/guides/handlers.md.
"""

# ruff: noqa: E501
import math
import re
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import reparam
from pyro.infer.autoguide import AutoDiagonalNormal
from pyro.nn import PyroModule, PyroSample

import sdeppl as sp

D = torch.float64
DRAWS, PRIOR = 2_000, 20_000
PAGE = Path(__file__).parents[2] / "docs" / "guides" / "handlers.md"
Model = Callable[..., Any]


def number(value):
    return torch.tensor(value, dtype=D)


def chain(y=None):
    mu = pyro.sample("mu", dist.Normal(number(0.0), 1.0))
    x = pyro.sample("x", dist.Normal(mu, 2.0))
    pyro.sample("y", dist.Normal(x, 1.0), obs=y)


def chain_of(middle: Callable[[torch.Tensor], torch.Tensor]) -> Model:
    """The chain with x as `middle` of mu has it."""

    def model(y=None):
        mu = pyro.sample("mu", dist.Normal(number(0.0), 1.0))
        pyro.sample("y", dist.Normal(middle(mu), 1.0), obs=y)

    return model


def normal(name, loc, scale):
    return pyro.sample(name, dist.Normal(loc, scale))


@dataclass(frozen=True)
class Case:
    """A handler, a model that it is in, and what has to come out.

    expected: (site, mean, sd) of its posterior, or a part of the ModelError of the guide; references: the
    same of `reference.exact`, None for the same as the guide, '' where that is not asked; note: what the handler means here.
    """

    handler: str
    note: str
    model: Model
    expected: Any
    references: Any = None
    data: Mapping[str, Any] = field(default_factory=lambda: {"y": number(3.0)})
    kwargs: Mapping[str, Any] = field(default_factory=dict)


PLAIN = ("mu", 0.5, math.sqrt(5 / 6))
GIVEN_MU = ("x", 2.6, math.sqrt(4 / 5))
NONE: Mapping[str, Any] = {}
SEEN, THREE = number([1.0, 2.0, 6.0]), {"y": number([1.0, 2.0, 6.0])}
OF_THREE = ("mu", 9 / 4, 0.5)


def of_three(size=None, y=None):
    mu = pyro.sample("mu", dist.Normal(number(0.0), 1.0))
    with pyro.plate("rows", 3, subsample_size=size) as index:
        pyro.sample("y", dist.Normal(mu, 1.0), obs=None if y is None else y[index])


def vector(y=None):
    """mu ~ N(0, 1), x_i ~ N(mu, 2²), y_i ~ N(x_i, 1) of four."""
    mu = pyro.sample("mu", dist.Normal(number(0.0), 1.0))
    x = pyro.sample("x", dist.Normal(mu, 2.0).expand([4]).to_event(1))
    pyro.sample("y", dist.Normal(x, 1.0).to_event(1), obs=y)


FOUR = {"y": number([1.0, 2.0, 3.0, 6.0])}
OF_FOUR = ("mu", (12 / 5) / (1 + 4 / 5), (1 + 4 / 5) ** -0.5)


def transformed(y=None):
    mu = pyro.sample("mu", dist.Normal(number(0.0), 1.0))
    affine = torch.distributions.AffineTransform(mu, 2.0)
    x = pyro.sample("x", dist.TransformedDistribution(dist.Normal(number(0.0), 1.0), [affine]))
    pyro.sample("y", dist.Normal(x, 1.0), obs=y)


def neutra() -> Model:
    guide = AutoDiagonalNormal(chain)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        guide(number(3.0))
    return reparam.NeuTraReparam(guide).reparam(chain)


def conjugate(y=None):
    p = pyro.sample("p", dist.Beta(number(2.0), 2.0))
    pyro.sample("y", dist.Binomial(5, p), obs=y)


def discrete(y=None):
    k = pyro.sample("k", dist.Bernoulli(number(0.3)), infer={"enumerate": "parallel"})
    x = pyro.sample("x", dist.Normal(k, 2.0))
    pyro.sample("y", dist.Normal(x, 1.0), obs=y)


def lifted(y=None):
    x = pyro.sample("x", dist.Normal(pyro.param("mu", lambda: number(0.0)), 2.0))
    pyro.sample("y", dist.Normal(x, 1.0), obs=y)


def subsampled():
    mu = pyro.sample("mu", dist.Normal(number(0.0), 1.0))
    with pyro.plate("rows", 3, subsample_size=2):
        pyro.sample("y", dist.Normal(mu, 1.0), obs=pyro.subsample(SEEN, event_dim=0))


def masked_data(y=None):
    mu = pyro.sample("mu", dist.Normal(number(0.0), 1.0))
    with pyro.plate("rows", 3), poutine.mask(mask=torch.tensor([True, True, False])):
        pyro.sample("y", dist.Normal(mu, 1.0), obs=y)


def padded(y=None):
    keep = torch.tensor([True, True, False])
    mu = pyro.sample("mu", dist.Normal(number(0.0), 1.0))
    with pyro.plate("groups", 3), poutine.mask(mask=keep):
        x = pyro.sample("x", dist.Normal(mu, 2.0))
        pyro.sample("y", dist.Normal(x, 1.0), obs=y)


def gaps():
    mu = pyro.sample("mu", dist.Normal(number(0.0), 1.0))
    filled = pyro.sample("gaps", dist.Normal(number([0.0, 0.0]), 1.0).to_event(1).mask(False))
    pyro.sample("y", dist.Normal(mu, 1.0).expand([5]).to_event(1), obs=torch.cat([SEEN, filled]))


def observed_in_part():
    mu = pyro.sample("mu", dist.Normal(number(0.0), 1.0))
    with pyro.plate("rows", 3):
        pyro.sample("y", dist.Normal(mu, 1.0), obs=SEEN, obs_mask=torch.tensor([True, False, True]))


def by_factor(y=None):
    mu = pyro.sample("mu", dist.Normal(number(0.0), 1.0))
    pyro.factor("f", -2.0 * (mu - 1.0) ** 2)
    pyro.sample("y", dist.Normal(mu, 1.0), obs=y)


def residual(y=None):
    mu = pyro.sample("mu", dist.Normal(number(0.0), 1.0))
    pyro.sample("r", dist.Normal(number(0.0), 0.5), obs=1.0 - mu)
    pyro.sample("y", dist.Normal(mu, 1.0), obs=y)


class Module(PyroModule):
    def __init__(self):
        super().__init__()
        self.mu = PyroSample(dist.Normal(number(0.0), 1.0))
        self.x = PyroSample(lambda self: dist.Normal(self.mu, 2.0))

    def forward(self, y=None):
        return pyro.sample("y", dist.Normal(self.x, 1.0), obs=y)


LAYER = torch.nn.Linear(1, 1, bias=False).to(D)
LAYER.weight.data.fill_(2.0)


def with_module(y=None):
    mu = pyro.sample("mu", dist.Normal(number([0.0]), 1.0).to_event(1))
    x = pyro.sample("x", dist.Normal(pyro.module("layer", LAYER)(mu)[0] / 2.0, 2.0))
    pyro.sample("y", dist.Normal(x, 1.0), obs=y)


def markov(y=None):
    x = pyro.sample("mu", dist.Normal(number(0.0), 1.0))
    for step in pyro.markov(range(2)):
        x = pyro.sample(f"x_{step}", dist.Normal(x, 2.0))
    pyro.sample("y", dist.Normal(x, 1.0), obs=y)


def with_infer(y=None):
    mu = pyro.sample("mu", dist.Normal(number(0.0), 1.0), infer={"enumerate": "parallel"})
    x = pyro.sample("x", dist.Normal(mu, 2.0), infer={"anything": 1})
    pyro.sample("y", dist.Normal(x, 1.0), obs=y)


def twice(mu):
    return pyro.deterministic("v", normal("x", mu, 2.0))


def delta(mu):
    v = normal("x", mu, 2.0)
    return pyro.sample("v", dist.Delta(v), obs=v)


def barrier(mu):
    return normal("x", pyro.barrier([mu])[0], 2.0)


def replayed() -> Model:
    return poutine.replay(chain, trace=poutine.trace(chain).get_trace())


def scaled(y=None):
    with poutine.scale(scale=2.0):
        mu = pyro.sample("mu", dist.Normal(number(0.0), 1.0))
    pyro.sample("y", dist.Normal(mu, 1.0), obs=y)


def scaled_data(y=None):
    mu = pyro.sample("mu", dist.Normal(number(0.0), 1.0))
    with poutine.scale(scale=2.0):
        pyro.sample("y", dist.Normal(mu, 1.0), obs=y)


def masked_prior(y=None):
    with poutine.mask(mask=False):
        mu = pyro.sample("mu", dist.Normal(number(3.0), 1.0))
    pyro.sample("y", dist.Normal(mu, 1.0), obs=y)


one, three = {"x": number(1.0)}, number(3.0)


def changed(name: str, how: Any, model: Model = vector) -> Model:
    return poutine.reparam(model, config={name: how})


RANDOM = "depends on something random that is neither a latent"

CASES = [
    Case("`reparam`: `LocScaleReparam`", "another parametrisation", changed("x", reparam.LocScaleReparam(0.0), chain), PLAIN),
    Case("`reparam`: `LocScaleReparam()`", "centred in part, by a parameter", changed("x", reparam.LocScaleReparam(), chain), PLAIN),
    Case("`reparam`: `TransformReparam`", "another parametrisation", changed("x", reparam.TransformReparam(), transformed), PLAIN),
    Case("`reparam`: `HaarReparam`", "another parametrisation", changed("x", reparam.HaarReparam()), OF_FOUR, data=FOUR),
    Case("`reparam`: `DiscreteCosineReparam`", "another parametrisation", changed("x", reparam.DiscreteCosineReparam()), OF_FOUR, data=FOUR),
    Case("`reparam`: `MinimalReparam`", "another parametrisation", reparam.strategies.MinimalReparam()(vector), OF_FOUR, data=FOUR),
    Case("`reparam` of an observed site", "its data are given to the model: `kwargs={'y': ...}`", changed("y", reparam.LocScaleReparam(0.0), vector), OF_FOUR, data=NONE, kwargs=FOUR),
    Case("`reparam` of an observed site, data by name", "the site is computed from others", changed("y", reparam.LocScaleReparam(0.0), vector), "site 'y' is computed from other sites", data=FOUR),
    Case("`reparam`: `SplitReparam`", "its parts have a density and no draws", changed("x", reparam.SplitReparam([1, 3], -1)), "site 'x_split_0' cannot be drawn from", data=FOUR),
    Case("`reparam`: `NeuTraReparam`", "its density is written as weights of Deltas", neutra(), "site 'mu' is a Delta with a log_density", ""),
    Case("`reparam`: `ConjugateReparam`", "what it draws is no site", changed("p", reparam.ConjugateReparam(dist.Beta(number(4.0), 1.0)), conjugate), "latent site 'y' is discrete", ""),
    Case("`condition` on the data", "data", poutine.condition(chain, data={"y": three}), PLAIN, data=NONE),
    Case("`condition` on a latent with parents", "an observation of them; what lies below is no news", poutine.condition(chain, data=one), ("mu", 0.2, math.sqrt(4 / 5)), data=NONE),
    Case("`condition` on a latent without parents", "a constant", poutine.condition(chain, data={"mu": number(1.0)}), GIVEN_MU),
    Case("`do`", "a constant below it", poutine.do(chain, data={"mu": number(1.0)}), GIVEN_MU),
    Case("`do`, and data that it cuts off", "the data say nothing of the latents", poutine.do(chain, data=one), "site 'y' is a latent of the guide", ("mu", 0.0, 1.0)),
    Case("`block` of a latent", "summed out by the guide, of which only draws are asked", poutine.block(chain, hide=["mu"]), ("x", 2.5, math.sqrt(5 / 6)), f"site 'x' {RANDOM}"),
    Case("`block` of what data depend on", "random, and not known", poutine.block(chain, hide=["x"]), f"site 'y' {RANDOM}", f"site 'y' {RANDOM}"),
    Case("`block` of an observed site", "not there", poutine.block(chain, hide=["y"]), "no observable site 'y'", "no site 'y'"),
    Case("`mask` on data", "not observed", masked_data, ("mu", 1.0, 3**-0.5), data=THREE),
    Case("`mask` on a latent", "its prior density is switched off, its draws stay", masked_prior, "latent site 'mu' is masked", ("mu", 3.0, 1.0)),
    Case("`mask` on a group and its data", "left out together", padded, ("mu", (3 / 5) / (7 / 5), (7 / 5) ** -0.5), "the prior is improper", data=THREE),
    Case("`mask(False)` on gaps in data", "drawn from the site that is observed there", gaps, OF_THREE, data=NONE),
    Case("`obs_mask=`", "the other numbers are not observed", observed_in_part, ("mu", 7 / 3, 3**-0.5), data=NONE),
    Case("`scale` on a latent", "a power of the prior, which draws do not show", scaled, "latent site 'mu' is scaled", ("mu", 1.0, 3**-0.5)),
    Case("`scale` on data", "a power of the likelihood, which is no posterior", scaled_data, "site 'y' is scaled", ("mu", 2.0, 3**-0.5)),
    Case("`infer=`, `infer_config`", "said to other algorithms", poutine.infer_config(with_infer, lambda site: {"enumerate": "parallel"}), PLAIN),
    Case("`infer={'enumerate': ...}` of a discrete site", "discrete latents are summed out by hand", discrete, "latent site 'k' is discrete", "latent site 'k' is discrete"),
    Case("`markov`", "nothing", markov, ("mu", 0.3, math.sqrt(0.9))),
    Case("`plate`", "as many data", of_three, OF_THREE, data=THREE),
    Case("`plate` with `subsample_size` of all", "as many data, in another order", of_three, OF_THREE, data=NONE, kwargs={"size": 3, **THREE}),
    Case("`plate` with a smaller `subsample_size`", "random, and scaled up", of_three, "site 'y' is scaled", f"site 'y' {RANDOM}", data=NONE, kwargs={"size": 2, **THREE}),
    Case("`pyro.subsample`", "random, and scaled up", subsampled, "site 'y' is scaled", f"site 'y' {RANDOM}", data=NONE),
    Case("`pyro.factor`", "part of the density, which draws do not show", by_factor, "site 'f' is a pyro.factor", ("mu", 7 / 6, 6**-0.5)),
    Case("`pyro.deterministic`", "computed", chain_of(twice), PLAIN),
    Case("`sample('v', Delta(v), obs=v)`", "computed", chain_of(delta), PLAIN),
    Case("`sample('r', fn, obs=y - f(x))`", "its density at that value", residual, ("mu", 7 / 6, 6**-0.5)),
    Case("`equalize`", "the second is computed", poutine.equalize(chain, ["mu", "x"]), ("mu", 1.5, 0.5**0.5)),
    Case("`equalize(keep_dist=True)`", "the second is observed at the first", poutine.equalize(chain, ["mu", "x"], keep_dist=True), ("mu", 1.5, 0.5**0.5)),
    Case("`uncondition`", "nothing is observed by the model itself", poutine.uncondition(poutine.condition(chain, data=one)), PLAIN),
    Case("`replay`", "its draws never change", replayed(), "latent site 'mu' has the same value in 10 runs", "latent site 'mu' has the same value"),
    Case("`seed`", "its draws never change", poutine.seed(chain, 3), "latent site 'mu' has the same value in 10 runs", "latent site 'mu' has the same value"),
    Case("`substitute`", "a constant", poutine.substitute(lifted, data={"mu": number(1.0)}), GIVEN_MU),
    Case("`lift`", "parameters become latents", poutine.lift(lifted, prior={"mu": dist.Normal(number(0.0), 1.0)}), PLAIN),
    Case("`pyro.module`", "a constant function", with_module, PLAIN),
    Case("`PyroModule`, `PyroSample`", "latents", Module(), PLAIN),
    Case("`pyro.barrier`", "nothing", chain_of(barrier), PLAIN),
]  # fmt: skip


def outcome(run: Callable[[], tuple[float, float]]) -> tuple[float, float] | str:
    """Mean and sd, or the message of a ModelError."""
    try:
        return run()
    except sp.ModelError as error:
        return str(error)


def guided(case: Case) -> tuple[float, float] | str:
    """By the guide: mean and sd of an exact run's draws."""

    def run() -> tuple[float, float]:
        guide = sp.ScoreGuide(case.model, net=None, kwargs=case.kwargs)
        guide.fit_gaussian(PRIOR, progress=False)
        found = guide.condition(case.data, backend="numpy").run(DRAWS)
        assert found.diagnosis.text.startswith("exact"), found.diagnosis.text
        draws = torch.as_tensor(found.draws[case.expected[0]], dtype=D)
        return float(draws.mean()), float(draws.std())

    return outcome(run)


def referenced(case: Case) -> tuple[float, float] | str:
    """By `reference.exact`."""
    wanted = case.expected if case.references is None else case.references
    if wanted == "":
        return ""

    def run() -> tuple[float, float]:
        found = sp.reference.exact(case.model, case.data, kwargs=case.kwargs).moments[wanted[0]]
        return float(found.mean), float(found.sd)

    return outcome(run)


def cell(found: tuple[float, float] | str) -> str:
    """What the table says of an outcome."""
    if found == "":
        return "not asked"
    if isinstance(found, str):
        return "refused: " + re.split(r"[;,(]|: (?:a |the |Improper)| that is neither", found)[0].strip()
    return "right numbers"


def row(case: Case) -> str:
    """The case's line of the table, from a run."""
    return f"| {case.handler} | {case.note} | {cell(guided(case))} | {cell(referenced(case))} |"


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    text = PAGE.read_text()
    start, end = text.index("| Handler"), text.index("\n\n", text.index("| Handler"))
    head = ["| Handler | What it means here | `ScoreGuide` | `reference.*` |", "|---|---|---|---|"]
    PAGE.write_text(text[:start] + "\n".join([*head, *map(row, CASES)]) + text[end:])
    sys.exit(0)
