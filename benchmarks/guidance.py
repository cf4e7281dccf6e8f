"""Pointwise error of each mean likelihood, by noise level, against the exact one.

    python benchmarks/guidance.py                  # about two minutes
    python benchmarks/guidance.py --figure docs/guidance.png

A Gaussian mixture of three components in three dimensions, two numbers of it seen: l(y given x_t) has a
closed form. The error is that of E[x_0 given x_t, y], root mean square over x_t drawn from p(x_t given
y), in units of the posterior's own standard deviation at that level, from Cov[x_0 given x_t, y]; that of
ln l, its standard deviation over x_t, is what makes the weights of a twisted solve uneven. NumPy, float64.
"""

import argparse
import time

import numpy as np

import sdeppl as sp

SDE = sp.VPSDE()
WEIGHTS = np.array([0.2, 0.5, 0.3])
MEANS = np.array([[-2.0, 0.5, 0.0], [1.5, 1.0, 0.5], [0.0, -1.5, 1.0]])
COVARIANCES = np.stack([np.diag([0.3, 0.5, 0.2]), np.diag([0.2, 0.2, 0.6]) + 0.1, np.diag([0.6, 0.1, 0.3])])
H, Y, R = np.array([[1.0, 0.5, 0.0], [0.0, -1.0, 1.0]]), np.array([0.8, 0.4]), np.array([0.1, 0.2])
LEVELS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)  # σ/α
COUNT = 300


def rungs(prior: sp.Denoiser, seen: sp.LinearGaussian) -> dict[str, sp.MeanLikelihood]:
    """Each method of the ladder, from the crudest."""
    return {
        "naive": sp.NaiveDenoiser(prior, seen),
        "dps": sp.DPSDenoiser(prior, seen),
        "sda": sp.SDADenoiser(prior, seen),
        "pigdm": sp.PiGDMDenoiser(prior, seen, variance=2.0),
        "tweedie, mean's gradient": sp.TweedieDenoiser(prior, seen, gradient="mean"),
        "tweedie": sp.TweedieDenoiser(prior, seen),
        "monte-carlo": sp.MonteCarloDenoiser(prior, seen),
        "nested, 64 draws": sp.NestedDenoiser(prior, seen, samples=64, steps=20),
        "nested, 512 draws": sp.NestedDenoiser(prior, seen, samples=512, steps=20),
    }


def time_at(level: float) -> float:
    """t at which σ/α is `level`."""
    low, high = 1e-9, SDE.T
    for _ in range(80):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if SDE.sigma(middle) / SDE.alpha(middle) < level else (low, middle)
    return 0.5 * (low + high)


def main() -> None:
    """Print the table, and draw the figure where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--figure", help="a file for the picture")
    parser.add_argument("--short", action="store_true", help="small settings, to see that it runs")
    arguments = parser.parse_args()
    count = 100 if arguments.short else COUNT
    prior = sp.GaussianMixtureDenoiser(SDE, WEIGHTS, MEANS, COVARIANCES)
    seen = sp.LinearGaussian(H, Y, R)
    exact = sp.exact_posterior(prior, seen).denoiser
    errors: dict[str, list[tuple[float, float, float]]] = {}
    for level in LEVELS:
        t = time_at(level)
        x = exact.marginals.sample(t, count, seed=1)
        moments = exact(x, t)
        scale = np.sqrt(np.trace(moments.covariance.dense(), axis1=1, axis2=2).mean())
        truth = _log_ratio(prior, exact, x, t)
        for name, rung in rungs(prior, seen).items():
            start = time.perf_counter()
            guided = rung.guided(x, t)
            seconds = time.perf_counter() - start
            off = np.sqrt(np.mean(np.sum((guided.mean - moments.mean) ** 2, axis=1))) / scale
            spread = float(np.std(guided.log_likelihood - truth))
            errors.setdefault(name, []).append((float(off), spread, seconds))
    print(f"{'σ/α':26}" + "".join(f"{level:>16g}" for level in LEVELS) + "   ms for 1,000")
    for name, row in errors.items():
        cells = "".join(f"{off:9.3f} ({spread:4.2f})" for off, spread, _ in row)
        print(f"{name:26}{cells}   {1e6 / count * np.median([s for _, _, s in row]):8.1f}")
    print(
        "error of E[x_0 given x_t, y] in posterior standard deviations (standard deviation of ln l's error)"
    )
    if arguments.figure:
        draw(errors, arguments.figure)


def _log_ratio(prior: sp.Denoiser, exact: sp.Denoiser, x: np.ndarray, t: float) -> np.ndarray:
    """ln l(y given x_t) up to a constant: ln p(x_t given y) - ln p(x_t)."""
    found: np.ndarray = exact.log_density(x, t) - prior.log_density(x, t)
    return found


def draw(errors: dict[str, list[tuple[float, float, float]]], path: str) -> None:
    """The table as a picture."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7.5, 4.2), layout="constrained")
    colours = [
        "#999999",
        "#e69f00",
        "#56b4e9",
        "#009e73",
        "#cc79a7",
        "#0072b2",
        "#d55e00",
        "#bbbbbb",
        "#000000",
    ]
    markers = "xsv^DoPd*"
    for (name, row), colour, marker in zip(errors.items(), colours, markers, strict=True):
        axes.loglog(LEVELS, [max(off, 1e-5) for off, _, _ in row], marker=marker, color=colour, label=name)
    axes.set_xlabel("noise level σ/α (data on the left, noise on the right)")
    axes.set_ylabel("error of E[x₀ | x_t, y], posterior sd")
    axes.set_title("Mean likelihoods on a mixture of three Gaussians, seen linearly")
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
