"""The Nile with forty years missing: train, sample, compare with the exact answer, draw the picture."""

import argparse
from typing import TYPE_CHECKING, Any

from .errors import GOOD, NOT_TRUSTED, require_pictures, say

if TYPE_CHECKING:
    import numpy as np

HELP = "a demonstration of a minute or less, with a picture"
# Yearly flow of the Nile at Aswan, 1871 to 1970, 10⁸ m³ (Cobb 1978)
FLOW = """
1120 1160 963 1210 1160 1160 813 1230 1370 1140 995 935 1110 994 1020 960 1180 799 958 1140 1100
1210 1150 1250 1260 1220 1030 1100 774 840 874 694 940 833 701 916 692 1020 1050 969 831 726 456 824
702 1120 1100 832 764 821 768 845 864 862 698 845 744 796 1040 759 781 865 845 944 984 897 822 1010
771 676 649 846 812 742 801 1040 860 874 848 890 744 749 838 1050 918 986 797 923 975 815 1020 906
901 1170 912 746 919 718 714 740
"""
START_MEAN, START_SD, STEP_SD, NOISE_SD = 1000.0, 500.0, 38.33, 122.9  # Durbin & Koopman, chapter 2
LARGEST_ERROR = 0.1  # rms over the years, in posterior standard deviations


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `demo`."""
    parser.add_argument("--out", default="sdeppl_demo.png", metavar="PICTURE.png", help="the picture")
    parser.add_argument("--steps", type=int, default=100, help="of training (default 100)")
    parser.add_argument("--seed", type=int, default=0, help="of everything random (default 0)")
    parser.add_argument("--backend", help="numpy, torch, torch:cuda, cupy; SDEPPL_BACKEND by default")


def run(arguments: argparse.Namespace) -> int:
    """Train, sample, compare, draw; not trusted where the errors are too large."""
    require_pictures("the demo's picture needs", arguments.out)
    import numpy as np

    from ..backend import resolve, to_host
    from ..diagnostics import compare
    from ..guide import ScoreGuide
    from ..reference import Exact
    from ..training import ScoreMatching

    backend = resolve(arguments.backend)
    flow = np.array(FLOW.split(), dtype=float)
    flow[20:40] = flow[60:80] = np.nan
    guide = ScoreGuide(nile, seed=arguments.seed)
    training = ScoreMatching(guide, draws=50_000, seed=arguments.seed)
    training.fit(arguments.steps, progress=not arguments.quiet)
    posterior = guide.condition(y=flow, backend=backend)
    found = posterior.run(1_000, seed=arguments.seed, progress=not arguments.quiet)
    mean, sd = exact_level(flow)
    comparison = compare(found.draws, {"level": Exact(mean, sd)})["level"]
    _picture(arguments.out, flow, to_host(found.draws["level"]), mean, sd)
    print(f"backend: {backend}")
    print(f"diagnosis: {found.diagnosis}")
    print(
        f"against the exact answer, rms over 100 years: means off by {comparison.mean_error:.3f} sd (noise "
        f"alone {comparison.mean_noise:.3f}), standard deviations by {comparison.sd_error:.1%} "
        f"({comparison.sd_noise:.1%})"
    )
    say(arguments, f"picture: {arguments.out}")
    good = found.diagnosis.trusted and max(comparison.mean_error, comparison.sd_error) < LARGEST_ERROR
    return GOOD if good else NOT_TRUSTED


def nile(y: Any = None) -> None:
    """A level that wanders, observed with noise."""
    import pyro
    import pyro.distributions as dist

    from ..distributions import SDEPath
    from ..sde import LinearSDE

    start = dist.Normal(START_MEAN, START_SD)
    level = pyro.sample("level", SDEPath(LinearSDE(a=0.0, b=STEP_SD), start, [float(k) for k in range(100)]))
    pyro.sample("y", dist.Normal(level, NOISE_SD).to_event(1), obs=y)


def exact_level(flow: "np.ndarray") -> "tuple[np.ndarray, np.ndarray]":
    """Mean and standard deviation of the level given the flow, NaN left out, by conditioning a Gaussian."""
    import numpy as np

    seen, year = np.flatnonzero(~np.isnan(flow)), np.arange(flow.shape[0])
    prior = START_SD**2 + STEP_SD**2 * np.minimum(year[:, None], year)
    gain = np.linalg.solve(prior[np.ix_(seen, seen)] + NOISE_SD**2 * np.eye(seen.shape[0]), prior[seen]).T
    mean = START_MEAN + gain @ (flow[seen] - START_MEAN)
    return mean, np.sqrt(np.diag(prior - gain @ prior[seen]))


def _picture(path: str, flow: Any, draws: Any, mean: Any, sd: Any) -> None:
    import numpy as np
    from matplotlib.figure import Figure

    from ..plots import Band, plot_paths

    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    bands = {"sdeppl": Band.of_draws(draws), "exact": Band.of_normal(mean, sd)}
    plot_paths(axes, np.arange(1871, 1971), bands, flow, draws[:8], [(1890.5, 1910.5), (1930.5, 1950.5)])
    axes.set(xlabel="year", ylabel="flow of the Nile, 10⁸ m³ a year")
    axes.set_title("level given the flow: posterior mean, 90% band and 8 draws", loc="left", fontsize=10)
    axes.legend(loc="upper right", fontsize=8, ncols=3)
    figure.savefig(path, dpi=120)
