"""A posterior and all that is known of it, on one page: what each check said, and all of them together."""

import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .. import plots
from ..backend import Array, seed_number, to_host, whole_number
from ..backend.arguments import has, kind
from ..backend.files import check_folder, replacing
from ..diagnostics import compare
from ..guide import ScoreGuide
from ..plots.corner import numbers_of
from .graph import Site, sites_of, svg_of
from .page import badge, page, picture, preformatted, table

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase


State = Literal["trusted", "do not trust", "cannot tell"]
UNCHECKED = "cannot tell: no draws held out of its fit have looked at it; give what guide.condition returns"
MOST_ROWS = 24  # of a table of numbers
CORNER = 6  # numbers up to which pairs are drawn
QUANTILES = (0.05, 0.5, 0.95)


@dataclass(frozen=True)
class Check:
    """One check: its name, what it says, in one of three states and in words, and its table if it has one.

    independent: whether it looks at the draws from outside, by a reference or by simulated data sets,
    and so can show that they are right; the others can only show that something is wrong; needed: whether
    nothing is trusted before it can tell.
    """

    name: str
    state: State
    text: str
    table: str = ""
    independent: bool = False
    needed: bool = False

    @classmethod
    def of(cls, name: str, result: object, independent: bool = False) -> "Check":
        """Of a result that has a `verdict` in words (or a `text`), and is `trusted` (or `good`) or not.

        Raises: TypeError for a result that has neither.
        """
        text = getattr(result, "verdict", getattr(result, "text", None))
        good = getattr(result, "trusted", getattr(result, "good", None))
        if text is None or good is None:
            raise TypeError(
                f"report: {name} must be what a check returns, with a verdict and whether it is trusted; "
                f"got {type(result).__name__}"
            )
        state: State = "trusted" if good else "do not trust"
        if not good and (getattr(result, "state", "") or str(text)).startswith("cannot tell"):
            state = "cannot tell"
        table = str(result)
        return cls(name, state, str(text), "" if table == text else table, independent)


def overall(checks: Sequence[Check]) -> tuple[State, str]:
    """All checks together, in words: one that fails is enough, and one from outside is needed.

    An answer in closed form needs no check from outside, but that the score is the prior's.
    """
    failed = [check for check in checks if check.state == "do not trust"]
    if failed:
        return "do not trust", "; ".join(f"{check.name}: {check.text}" for check in failed)
    unmade = [check for check in checks if check.needed and check.state == "cannot tell"]
    if unmade:
        return "cannot tell", "; ".join(f"{check.name}: {check.text}" for check in unmade)
    passed = [check.name for check in checks if check.independent and check.state == "trusted"]
    if passed:
        return "trusted", f"nothing speaks against these draws, and they passed: {', '.join(passed)}"
    return (
        "cannot tell",
        "nothing speaks against these draws, but nothing from outside has looked at them: give a reference "
        "(sp.reference.nuts, hmc or exact) or a simulation-based calibration (sp.sbc)",
    )


@dataclass(frozen=True)
class Report:
    """Where the page is, and what it says: `state` is 'trusted', 'do not trust' or 'cannot tell'."""

    path: Path
    state: State
    verdict: str
    checks: tuple[Check, ...]

    def __str__(self) -> str:
        return f"{self.state}: {self.verdict}\n{self.path}"


def report(
    posterior: Any,
    path: str | Path = "report.html",
    *,
    reference: object = None,
    sbc: Any = None,
    coverage: Any = None,
    score: object = None,
    guide: Any = None,
    training: Any = None,
    checks: Mapping[str, object] | None = None,
    draws: int = 2_000,
    seed: int = 0,
    title: str = "Can this posterior be believed?",
) -> Report:
    """Draw from a posterior, check it by all that is given, and write one HTML file that needs no other.

    posterior: what `guide.condition` returns. reference: what `sp.reference.nuts`, `hmc` or `exact` return:
    draws are compared with it. sbc, coverage: what `sp.sbc` and `sp.tarp` return; score: what
    `sp.check_score` returns; guide: for its model as a graph; training: a `ScoreMatching`, for its curve;
    checks: {name: any other result with a verdict}. draws, seed: of `posterior.run`.

    The verdict: one check that fails is enough not to trust the draws; to trust them takes one from outside,
    a reference or a calibration, that passed, or an answer in closed form with a score that passed.

    A prior that is learned and that no held-out draws have looked at is not trusted either.

    Raises: TypeError, before anything is drawn, for a posterior without sites, a result without a verdict,
    or another argument of a wrong kind; FileNotFoundError for a folder that is not there; what
    `posterior.run` and `compare` raise.
    """
    path = _checked(posterior, path)
    kind("title", title, str, "a str")
    draws, seed = whole_number("draws", draws, 2), seed_number(seed)
    if checks is not None:
        kind("checks", checks, Mapping, "{name: result}")
    if guide is not None:
        kind("guide", guide, ScoreGuide, "a ScoreGuide")
    if training is not None:
        has("training", training, "losses", "a ScoreMatching")
    outside = {"simulation-based calibration": sbc, "coverage": coverage}
    given = [Check.of(name, result, True) for name, result in outside.items() if result is not None]
    inside = {"score": score, **(checks or {})}
    given += [Check.of(name, result) for name, result in inside.items() if result is not None]
    run = posterior.run(draws, seed=seed)
    comparison = None if reference is None else compare(run, reference)
    closed_form = run.diagnosis.correction is None and run.diagnosis.likelihood == "exact"
    found = [Check.of("its own weights", run.diagnosis, closed_form and score is not None)]
    if run.diagnosis.fit is None and run.diagnosis.prior == "learned":
        found.append(Check("the learned prior", "cannot tell", UNCHECKED, needed=True))
    found += [] if comparison is None else [Check.of("reference", comparison, True)]
    found += given
    state, verdict = overall(found)
    drawings = _drawings(comparison, sbc, coverage)
    sections = [] if guide is None else [("The model", model_section(guide))]
    sections += [("The answer", answer_section(posterior, run.draws))]
    sections += [("Pictures", pictures_section(run.draws, reference))]
    sections += [(c.name.capitalize(), check_section(c, drawings.get(c.name, ""))) for c in found]
    sections += [] if training is None else [("Training", _curve(training))]
    settings = {"draws": draws, "seed": seed, "written": f"{datetime.now():%Y-%m-%d %H:%M}"}
    sections += [("To run it again", again_section(settings))]
    with replacing(path) as part:
        part.write_text(page(title, state, verdict, sections), encoding="utf-8")
    return Report(path, state, verdict, tuple(found))


def _checked(posterior: object, path: str | Path) -> Path:
    if not hasattr(posterior, "arrays"):
        raise TypeError(
            f"report takes what guide.condition returns; got {type(posterior).__name__}: for a Posterior of "
            "arrays print its run's diagnosis and sp.compare"
        )
    check_folder(path)
    return Path(path)


def _drawings(comparison: Any, sbc: Any, coverage: Any) -> dict[str, str]:
    """The pictures of those checks that have one, by the names of the checks."""
    found = {}
    if comparison is not None:
        caption, rows = "Errors against the reference; grey: what is tolerated", min(len(comparison.sites), 4)
        size = (9, 1.6 + 2.1 * rows)
        found["reference"] = picture(lambda f: plots.plot_comparison(f, comparison), caption, size)
    if sbc is not None:
        caption = (
            "Ranks of the truths among the draws, and their distribution minus a uniform one's, with its band"
        )
        found["simulation-based calibration"] = picture(lambda f: plots.plot_sbc(f, sbc), caption, (9, 5))
    if coverage is not None:
        caption = "How often regions of a level hold the truth, and that minus the level"
        found["coverage"] = picture(lambda f: plots.plot_coverage(f, coverage), caption, (9, 4.4))
    return found


def _curve(training: Any) -> str:
    def draw(figure: "FigureBase") -> None:
        plots.plot_training(figure.subplots(), training.losses, training.gain)

    return picture(draw, "Loss of denoising score matching; 1 is the Gaussian part alone", (8, 3.2))


def model_section(guide: Any) -> str:
    """The guide's model: its graph, and its sites in a table."""
    sites = sites_of(guide.model, guide.args, guide.kwargs, guide.observable)
    rows = [
        (
            site.name,
            _role(site, guide.space.names),
            site.distribution,
            site.support,
            " × ".join(map(str, site.shape)) or "a number",
            ", ".join(f"{name} ({size})" for name, size in site.plates),
            site.sde,
        )
        for site in sites
    ]
    note = (
        "<p class='small'>White: latent; grey: observed; a second outline: holds an SDE; dashed: "
        "deterministic; no outline: a parameter; a box around sites: a plate.</p>"
    )
    head = ("site", "role", "distribution", "support", "shape", "plates", "SDE")
    prior = f"<p>Forward SDE of the guide: <code>{escape(str(guide.sde))}</code>.</p>"
    return svg_of(sites) + note + table(head, rows) + prior


def _role(site: Site, latents: Sequence[str]) -> str:
    if site.kind != "sample":
        return "parameter" if site.kind == "param" else "deterministic"
    return "observed" if site.observed else "latent" if site.name in latents else "drawn"


def answer_section(posterior: Any, draws: Mapping[str, Array]) -> str:
    """How the draws were made, and their moments and quantiles number by number."""
    arrays = posterior.arrays
    made = [
        ("mean likelihood", arrays.choice.name),
        ("why", arrays.choice.why),
        ("steps of the reverse SDE", str(arrays.steps)),
        ("backend", str(posterior.backend)),
        ("draws", str(next(iter(draws.values())).shape[0])),
    ]
    rows = []
    for label, values in numbers_of(draws).items():
        quantiles = [float(q) for q in np.quantile(values, QUANTILES)]
        rows.append((label, float(values.mean()), float(values.std(ddof=1)), *quantiles))
    left = len(rows) - MOST_ROWS
    more = f"<p class='small'>… and {left} numbers more.</p>" if left > 0 else ""
    head = ("number", "mean", "sd", *(f"{q:.0%}" for q in QUANTILES))
    return table(("", ""), made) + table(head, rows[:MOST_ROWS]) + more


def pictures_section(draws: Mapping[str, Array], reference: object) -> str:
    """Pairs of numbers where they are few, and each long site as a band over its index."""
    found = []
    count = len(numbers_of(draws))
    theirs = reference if getattr(reference, "draws", None) else None
    if count <= CORNER:
        side = 1.5 + 1.6 * count
        caption = "Histograms and contours that hold 50 and 90 %" + (
            ", beside the reference" if theirs else ""
        )
        found.append(picture(lambda f: plots.plot_corner(f, draws, theirs), caption, (side, side)))
    for site, values in draws.items():
        array = np.asarray(to_host(values))
        if array.ndim == 2 and array.shape[1] > CORNER:
            found.append(_band(site, array, theirs))
    return "".join(found) or "<p>No site is drawn: each is of more than one dimension.</p>"


def _band(site: str, array: np.ndarray, reference: Any) -> str:
    bands = {"sdeppl, 90 %": plots.Band.of_draws(array)}
    if reference is not None and site in reference.draws:
        bands["reference, 90 %"] = plots.Band.of_draws(np.asarray(to_host(reference.draws[site])))
    index = np.arange(array.shape[1])
    unseen = np.full(array.shape[1], np.nan)

    def draw(figure: "FigureBase") -> None:
        axes = figure.subplots()
        plots.plot_paths(axes, index, bands, unseen, array[:10])
        axes.set(xlabel="index", ylabel=site)

    return picture(draw, f"{site}: mean and band over its index, ten draws", (8, 3.4))


def check_section(check: Check, drawing: str = "") -> str:
    """One check's verdict, its table and its picture."""
    return badge(check.state, check.text) + drawing + (preformatted(check.table) if check.table else "")


def again_section(settings: Mapping[str, object]) -> str:
    """What it takes to make the same draws: settings and versions."""
    packages = ("sdeppl", "numpy", "torch", "pyro-ppl", "array-api-compat", "scipy")
    rows = [(name, repr(value)) for name, value in settings.items()]
    rows += [("python", platform.python_version())]
    rows += [(name, _version(name)) for name in packages]
    call = "posterior.run({draws}, seed={seed})".format(**settings)
    return preformatted(call) + table(("", ""), rows)


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
