"""Measured strong and weak orders of every solver for general SDEs, as a Markdown table.

    python benchmarks/orders.py                    # about ten seconds
    python benchmarks/orders.py --backend torch    # numpy, torch, torch:cuda, cupy or strict

The functions are those of tests/solvers/test_order_table.py, which asserts strong orders to 0.1 and
weak ones to 0.15 on every backend. Strong: slope of the root mean square error at t = 1 against the
step, on given Brownian paths (1,000 to 4,000, seed 7). Weak: slope of the error of the first and
second moments of a linear SDE, without Monte Carlo. Float64. Evaluations: of the drift, a step.
"""

import argparse
import math
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "solvers")]

from order_rows import rows  # noqa: E402

import sdeppl as sp  # noqa: E402


def order(value: float, digits: int) -> str:
    return "—" if math.isnan(value) else f"{value:.{digits}f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backend", default="numpy")
    backend = sp.resolve(parser.parse_args().backend, "float64")
    print("| solver | noise | strong: stated | measured | weak: stated | measured | evaluations |")
    print("|---|---|---|---|---|---|---|")
    for row in rows():
        strong, weak = row.measured_strong(backend), row.measured_weak(backend)
        print(
            f"| {row.solver.__name__} | {row.noise} | {order(row.strong, 1)} | {order(strong, 2)} "
            f"| {order(row.weak, 1)} | {order(weak, 2)} | {row.solver.evaluations} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
