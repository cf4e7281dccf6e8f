"""A posterior and all that is known of it, on one page."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from .. import plots
from ..backend import seed_number, whole_number
from ..backend.arguments import has, kind
from ..backend.files import check_folder, replacing
from ..diagnostics import compare
from ..guide import ScoreGuide
from .checks import Check, State, overall
from .page import page, picture
from .sections import again_section, answer_section, check_section, model_section, pictures_section

UNCHECKED = "cannot tell: no draws held out of its fit have looked at it; give what guide.condition returns"


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
    reference: Any = None,
    sbc: Any = None,
    coverage: Any = None,
    score: Any = None,
    guide: Any = None,
    training: Any = None,
    checks: Mapping[str, Any] | None = None,
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


def _checked(posterior: Any, path: str | Path) -> Path:
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
    def draw(figure: Any) -> None:
        plots.plot_training(figure.subplots(), training.losses, training.gain)

    return picture(draw, "Loss of denoising score matching; 1 is the Gaussian part alone", (8, 3.2))
