"""Wrong formulas, one at a time, and whether the tests see each: a sign, a factor, an index, a term.

    python tests/lint/mutations.py                # all 66: about half an hour of one processor
    python tests/lint/mutations.py --only 3 17    # some, by number
    python tests/lint/mutations.py --list         # that each text stands in one place, at no cost

Each is made in a copy of the sources, wherever its text stands now, and the tests that guard it run until the
first that fails: the files named with it first, then the folder of its package, without what is slow, as
`make test` has them. It prints 'found' with the test that failed, 'NOT found', or 'no such text', for an
entry to be brought up to date with a formula that was rewritten.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("src", "tests", "backends", "benchmarks", "pyproject.toml")
LONGEST = 1_200  # seconds that the tests of one mutation may take


class Mutation(NamedTuple):
    """old and new: text of one place under src/sdeppl; package: whose folder of tests guards it; files: of
    tests, by name, to run first."""

    package: str
    old: str
    new: str
    files: tuple[str, ...] = ()


SDE = [
    Mutation(
        "sde",
        "return functions.exp(-0.5 * span), -functions.expm1(-span)",
        "return functions.exp(-0.5 * span), -functions.expm1(-0.5 * span)",
        ("test_sde_marginals",),
    ),
    Mutation("sde", "(self.b**2 / (2 * self.a))", "(self.b**2 / self.a)", ("test_sde_marginals",)),
    Mutation(
        "sde",
        "total = span + 2 * self.schedule.integral(s)",
        "total = span + self.schedule.integral(s)",
        ("test_sde_marginals",),
    ),
    Mutation(
        "sde",
        "math.expm1(-2 * self.schedule.integral(t))",
        "math.expm1(-self.schedule.integral(t))",
        ("test_sde_marginals",),
    ),
    Mutation("sde", "return math.sqrt(2 * t)", "return math.sqrt(t)", ("test_sde_marginals",)),
    Mutation("sde", "start = self.sigma_min**2 * ", "start = self.sigma_min * ", ("test_sde_marginals",)),
    Mutation(
        "sde",
        "math.exp(-0.5 * self.schedule.integral(t))",
        "math.exp(-self.schedule.integral(t))",
        ("test_sde_marginals",),
    ),
    Mutation("sde", "return -0.5 * (t - s) * total", "return -(t - s) * total", ("test_sde_marginals",)),
    Mutation(
        "sde",
        "second=alpha_t * (1 + first / ((1 + k) * log_r)),",
        "second=alpha_t * (1 + first / log_r),",
        ("test_reverse", "test_isotropic_reverse"),
    ),
    Mutation(
        "sde",
        "noise=sigma_t * math.sqrt(-math.expm1(2 * k * log_r)),",
        "noise=sigma_t * math.sqrt(-math.expm1(k * log_r)),",
        ("test_reverse", "test_isotropic_reverse"),
    ),
    Mutation(
        "sde",
        "return 2 * sde.diffusion_jvp(x, t, g)",
        "return sde.diffusion_jvp(x, t, g)",
        ("test_reverse_state_dependent",),
    ),
    Mutation(
        "sde",
        "total = total + xp.sum(slope * row + columns * slope_row, axis=-1)",
        "total = total + xp.sum(slope * row, axis=-1)",
        ("test_reverse_state_dependent",),
    ),
    Mutation("sde", "-sign if sde.falling else sign", "sign", ("test_base_calculus", "test_general_solvers")),
    Mutation("sde", "q = q + phi @ q @ phi.T", "q = q + phi.T @ q @ phi", ("test_linear_matrix",)),
    Mutation(
        "sde",
        "self.mass * (both + 4 * y * decay * decay)",
        "self.mass * (both + 2 * y * decay * decay)",
        ("test_nonlinear_sdes", "test_sde_marginals"),
    ),
    Mutation(
        "sde",
        "return half_sum + 0.5 * flow, half_sum - 0.5 * flow",
        "return half_sum + flow, half_sum - flow",
        ("test_fokker_planck_rates",),
    ),
]

SOLVERS = [
    Mutation(
        "solvers",
        "x_next = (g * root / factor) * z",
        "x_next = (g * root) * z",
        ("test_euler_maruyama",),
    ),
    Mutation(
        "solvers",
        "return x + (f + sde.drift(predicted, t)) * (0.5 * h) + 0.5 * noise, None",
        "return x + (f + sde.drift(predicted, s)) * (0.5 * h) + 0.5 * noise, None",
        ("test_stochastic_runge_kutta_stochastic_heun",),
    ),
    Mutation(
        "solvers",
        "* ((0.5 * abs(h)) * (z * z - 1)), None",
        "* ((0.5 * abs(h)) * (z * z)), None",
        ("test_milstein",),
    ),
    Mutation(
        "solvers",
        "area = (xp.matrix_transpose(first) - first) / math.sqrt(12)",
        "area = (xp.matrix_transpose(first) - first) / math.sqrt(6)",
        ("test_milstein",),
    ),
    Mutation(
        "solvers",
        "variance = -math.expm1(-2 * sde.friction * h) *",
        "variance = -math.expm1(-sde.friction * h) *",
        ("test_splitting",),
    ),
    Mutation(
        "solvers", "first -= (p**2 / (2 * k)) * z", "first -= (p**2 / k) * z", ("test_brownian_bridge",)
    ),
    Mutation(
        "solvers",
        "(0.5 * q) * left.W - (0.5 * p) * right.W",
        "(0.5 * q) * left.W + (0.5 * p) * right.W",
        ("test_brownian_bridge",),
    ),
    Mutation(
        "solvers",
        "beta3=(2, -4 / 3, -2 / 3, 0),",
        "beta3=(2, -4 / 3, -1 / 3, 0),",
        ("test_stochastic_runge_kutta_rossler",),
    ),
    Mutation(
        "solvers",
        "error=(71 / 57600, 0.0, -71 / 16695,",
        "error=(71 / 57600, 0.0, 71 / 16695,",
        ("test_runge_kutta",),
    ),
    Mutation("solvers", "0.335480655492357)", "0.345480655492357)", ("test_runge_kutta",)),
    Mutation(
        "solvers",
        "moments.append(1 - n * moments[-1] / q)",
        "moments.append(1 - (n + 1) * moments[-1] / q)",
        ("test_dpm_solver_formulas",),
    ),
    Mutation(
        "solvers",
        "nodes = ((lambda_t, sde.nonlinear(predicted, t)), *nodes)",
        "nodes = ((lambda_t, sde.nonlinear(predicted, s)), *nodes)",
        ("test_dpm_solver_unipc",),
    ),
    Mutation(
        "solvers",
        "x_next + coefficients.second * (sde.nonlinear(x_next, t) - start), None",
        "x_next + 0.5 * coefficients.second * (sde.nonlinear(x_next, t) - start), None",
        ("test_isotropic_reverse",),
    ),
    Mutation(
        "solvers",
        "(forward.alpha(t) * q / variance_s) * sde.nonlinear(x, s)",
        "(forward.alpha(s) * q / variance_s) * sde.nonlinear(x, s)",
        ("test_samplers_ancestral",),
    ),
    Mutation(
        "solvers",
        "return time, raised, math.sqrt(raised**2 - rho**2)",
        "return time, raised, raised - rho",
        ("test_samplers_edm",),
    ),
    Mutation(
        "solvers",
        "weight = span * (1 + c * c) * forward.friction",
        "weight = span * (1 + c) * forward.friction",
        ("test_splitting_critically_damped",),
    ),
    Mutation(
        "solvers",
        "(up + down + 2 * g) * z + (up - down) * (z * z - 1))",
        "(up + down + 2 * g) * z + (up - down) * (z * z))",
        ("test_stochastic_runge_kutta_weak",),
    ),
    Mutation(
        "solvers",
        "delta = 2 * (self.snr * sde.isotropic.sigma(t)) ** 2",
        "delta = 2 * self.snr * sde.isotropic.sigma(t) ** 2",
        ("test_samplers_predictor_corrector",),
    ),
]

DENOISERS = [
    Mutation(
        "denoisers",
        "(alpha / sigma**2) * linear.covariance",
        "(alpha / sigma) * linear.covariance",
        ("test_network",),
    ),
    Mutation(
        "denoisers",
        "return sigma**2 / alpha * (slope * shrink) @ gaussian.basis.T",
        "return sigma / alpha * (slope * shrink) @ gaussian.basis.T",
        ("test_base_covariance_slope",),
    ),
    Mutation(
        "denoisers",
        "alpha / (alpha**2 + sigma**2), -sigma / (alpha**2 + sigma**2)",
        "alpha / (alpha**2 + sigma**2), -alpha / (alpha**2 + sigma**2)",
        ("test_function",),
    ),
    Mutation(
        "denoisers",
        '(sigma**2 if self.predicts == "score" else -sigma) / alpha',
        '(sigma if self.predicts == "score" else -sigma) / alpha',
        ("test_function",),
    ),
    Mutation(
        "denoisers",
        "total = total + length / self.sde.sigma(t) *",
        "total = total + length *",
        ("test_base_covariance_slope",),
    ),
    Mutation(
        "denoisers",
        "return alpha * alpha * self.eigenvalues / variance",
        "return alpha * self.eigenvalues / variance",
        ("test_gaussian", "test_network"),
    ),
    Mutation(
        "denoisers",
        "constant = self.logdet() + self.shape[0] * math.log(2 * math.pi)",
        "constant = self.shape[0] * math.log(2 * math.pi) - self.logdet()",
        ("test_gaussian",),
    ),
    Mutation(
        "denoisers",
        "squares = 0.5 * alpha**2 * xp.sum(offsets * scaled, axis=-1)",
        "squares = 0.5 * alpha * xp.sum(offsets * scaled, axis=-1)",
        ("test_mixture",),
    ),
    Mutation(
        "denoisers",
        "weights = weights - self.shares * xp.sum(weights, axis=-1, keepdims=True)",
        "weights = weights + 0 * self.shares",
        ("test_base_covariance_slope",),
    ),
    Mutation(
        "denoisers",
        "V = self.mixture.covariances.map(lambda values: alpha**2 * values + sigma**2)",
        "V = self.mixture.covariances.map(lambda values: alpha * values + sigma**2)",
        ("test_mixture",),
    ),
]

LIKELIHOOD = [
    Mutation(
        "likelihood",
        "return sigma**2 * self.variance / (alpha**2 * self.variance + sigma**2)",
        "return sigma**2 * self.variance / (self.variance + sigma**2)",
        ("test_rungs", "test_tweedie"),
    ),
    Mutation(
        "likelihood",
        "self.gamma * self.sde.sigma(t) ** 2 / self.sde.alpha(t) ** 2",
        "self.gamma * self.sde.sigma(t) ** 2 / self.sde.alpha(t)",
        ("test_rungs",),
    ),
    Mutation(
        "likelihood",
        "shift = 0.5 * sde.sigma(t) ** 2 / sde.alpha(t) * self.prior.covariance_slope(x, t, V, signs)",
        "shift = sde.sigma(t) ** 2 / sde.alpha(t) * self.prior.covariance_slope(x, t, V, signs)",
        ("test_tweedie", "test_rungs"),
    ),
    Mutation(
        "likelihood",
        "weight = self.zeta / first * alpha / sigma**2",
        "weight = self.zeta / first / sigma**2",
        ("test_rungs",),
    ),
    Mutation(
        "likelihood",
        "mean[:, None, :]) * (1 / math.sqrt(dim))",
        "mean[:, None, :]) * (1 / dim)",
        ("test_rungs_integrals", "test_rungs"),
    ),
    Mutation(
        "likelihood",
        "constant = 0.5 * (n - dim) * math.log(2 * math.pi)",
        "constant = 0.5 * n * math.log(2 * math.pi)",
        ("test_base_information",),
    ),
    Mutation(
        "likelihood",
        "+ (log_diagonal(scale) - log_diagonal(root))[:, None]",
        "- (log_diagonal(scale) - log_diagonal(root))[:, None]",
        ("test_rungs_integrals", "test_rungs"),
    ),
    Mutation(
        "likelihood",
        "0.5 * (pull * pull - 1 / site.noise.diagonal())",
        "0.5 * (pull * pull + 1 / site.noise.diagonal())",
        ("test_rungs",),
    ),
    Mutation(
        "likelihood",
        "log_mass, mean / root, (1 - shrinkage) / variance, shrinkage)",
        "log_mass, mean / root, (1 - shrinkage) / root, shrinkage)",
        ("test_tilted_moments",),
    ),
    Mutation(
        "likelihood",
        "return constant - 0.5 * (df + 1) * xp.log1p(z * z / df)",
        "return constant - 0.5 * df * xp.log1p(z * z / df)",
        ("test_observation_families",),
    ),
    Mutation(
        "likelihood",
        "at_kink - 4 * p * q / self.scale**2",
        "at_kink - 2 * p * q / self.scale**2",
        ("test_tilted_moments", "test_observation_families"),
    ),
    Mutation(
        "likelihood",
        "inner = self.K + xp.matrix_transpose(self.U) @ scaled",
        "inner = self.K - xp.matrix_transpose(self.U) @ scaled",
        ("test_operators", "test_rungs"),
    ),
]

POSTERIOR = [
    Mutation(
        "posterior",
        "weights = [1 / (n * (n - 1) *",
        "weights = [1 / (n * n *",
        ("test_langevin_score_integral",),
    ),
    Mutation(
        "posterior",
        "log_mean = finite + xp.log(total / count)",
        "log_mean = finite + xp.log(total)",
        ("test_twisted",),
    ),
    Mutation(
        "posterior",
        "(root**2 / noise) * curvature - self.numbers]",
        "(root / noise) * curvature - self.numbers]",
        ("test_log_density",),
    ),
    Mutation(
        "posterior",
        "log_weight = 0.5 * xp.sum(z * z - unguided * unguided, axis=-1) + self.log_ratio",
        "log_weight = 0.5 * xp.sum(z * z - unguided * unguided, axis=-1) - self.log_ratio",
        ("test_kernel", "test_twisted"),
    ),
    Mutation(
        "posterior",
        "root = (basis * (sigma / xp.sqrt(noise))[..., None, :]) @",
        "root = (basis * (sigma / noise)[..., None, :]) @",
        ("test_start",),
    ),
    Mutation(
        "posterior",
        "math.sqrt(1 - b * b) * rows + b * noise",
        "(1 - b) * rows + b * noise",
        ("test_guided_divergence_draws",),
    ),
    Mutation(
        "posterior",
        "stretch = dim * (math.log(flow.scale(T)) - math.log(flow.scale(t)))",
        "stretch = dim * (math.log(flow.scale(t)) - math.log(flow.scale(T)))",
        ("test_log_density",),
    ),
    Mutation(
        "posterior",
        "white = white - 0.5 * root * scale.root_eigenvalues * scale.inside(new.guided_score)",
        "white = white + 0.5 * root * scale.root_eigenvalues * scale.inside(new.guided_score)",
        ("test_langevin_corrector",),
    ),
    Mutation(
        "posterior",
        "evidence = found[0] + 0.5 * (prior.dim * math.log(2 * math.pi) - xp.sum(xp.log(values)))",
        "evidence = found[0] + 0.5 * (prior.dim * math.log(2 * math.pi) + xp.sum(xp.log(values)))",
        ("test_known_gaussian", "test_hamiltonian"),
    ),
    Mutation(
        "posterior",
        "root = (C * step.first**2).shifted(step.noise**2).sqrt()",
        "root = (C * step.first).shifted(step.noise**2).sqrt()",
        ("test_kernel", "test_twisted"),
    ),
]

MUTATIONS = [*SDE, *SOLVERS, *DENOISERS, *LIKELIHOOD, *POSTERIOR]


def place(mutation: Mutation, root: Path) -> Path | None:
    """The one file of the package whose one place has the text; None where there is not one."""
    texts = {path: path.read_text("utf-8") for path in sorted((root / "src" / "sdeppl").rglob("*.py"))}
    hits = {path: text.count(mutation.old) for path, text in texts.items() if mutation.old in text}
    return next(iter(hits)) if list(hits.values()) == [1] else None


def guards(mutation: Mutation, root: Path) -> list[list[str]]:
    """What to run, one after the other: the files by name, those that are there, then the folder."""
    files = [str(path) for name in mutation.files for path in sorted((root / "tests").rglob(f"{name}.py"))]
    folder = str(root / "tests" / mutation.package)
    return [files, [folder]] if files else [[folder]]


def run_tests(root: Path, what: list[str]) -> tuple[bool, str]:
    """Whether one failed, and which, or how the run ended."""
    threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS")}
    environment = os.environ | threads | {"PYTHONPATH": str(root / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-xq", "-m", "not slow", "-p", "no:cacheprovider", *what]
    try:
        done = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, text=True, timeout=LONGEST
        )
    except subprocess.TimeoutExpired:
        return True, f"the tests do not end within {LONGEST} s"
    lines = done.stdout.splitlines()
    failed = [line.split(" - ")[0] for line in lines if line.startswith(("FAILED", "ERROR"))]
    if done.returncode in (1, 2):
        return True, (failed or lines[-1:] or ["?"])[0]
    if done.returncode:
        raise RuntimeError(f"pytest ended with {done.returncode}: {done.stdout[-500:]}{done.stderr[-500:]}")
    return False, ""


def try_one(mutation: Mutation, root: Path) -> str:
    """Make it in the copy, run what guards it, undo it."""
    path = place(mutation, root)
    if path is None:
        return "no such text"
    whole, began = path.read_text("utf-8"), time.monotonic()
    path.write_text(whole.replace(mutation.old, mutation.new), "utf-8")
    try:
        for what in guards(mutation, root):
            found, by = run_tests(root, what)
            if found:
                return f"found ({time.monotonic() - began:.0f} s) by {by}"
    finally:
        path.write_text(whole, "utf-8")
    return f"NOT found ({time.monotonic() - began:.0f} s)"


def copied(tree: Path, target: Path) -> Path:
    """What tests need of a tree."""
    for name in COPIED:
        if (tree / name).is_dir():
            shutil.copytree(tree / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(tree / name, target / name)
    return target


def main() -> None:
    """Print a line for each, and how many were found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", type=int, help="numbers")
    parser.add_argument("--list", action="store_true", help="whether each text stands in one place")
    parser.add_argument("--tree", type=Path, default=ROOT, help="of another checkout")
    options = parser.parse_args()
    chosen = options.only or range(len(MUTATIONS))
    counts = {"found": 0, "NOT found": 0, "no such text": 0}
    with tempfile.TemporaryDirectory() as folder:
        root = options.tree if options.list else copied(options.tree, Path(folder))
        for number in chosen:
            mutation = MUTATIONS[number]
            if options.list:
                path = place(mutation, root)
                said = "no such text" if path is None else f"found in {path.relative_to(root)}"
            else:
                said = try_one(mutation, root)
            counts[next(word for word in counts if said.startswith(word))] += 1
            print(f"{number:2} {mutation.package}: {mutation.old[:60]!r}: {said}", flush=True)
    print(", ".join(f"{count} {word}" for word, count in counts.items()))


if __name__ == "__main__":
    main()
