"""Tries random models: python tests/fuzz/models.py --models 5000 --jobs 2 (make fuzz)."""

import argparse
import collections
import multiprocessing
import os
import statistics
import sys
from random import Random

import torch
from judge import Outcome, judge
from random_models import random_spec


def one(number: int, steps: int = 0) -> tuple[int, Outcome]:
    """The outcome of model `number`."""
    torch.set_num_threads(1)
    return number, judge(random_spec(Random(number)), steps)


def main() -> None:
    """Prints each as it comes, and the counts at the end; the exit status says whether one was wrong and
    trusted, an error, or slow."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=5000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that are started here
    counts: collections.Counter[str] = collections.Counter()
    seconds: list[float] = []
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        numbers = range(options.first, options.first + options.models)
        for number, outcome in pool.imap_unordered(one, numbers):
            counts[outcome.kind] += 1
            seconds.append(outcome.seconds)
            print(f"{number}: {outcome.kind} ({outcome.seconds:.1f} s): {outcome.what}", flush=True)
    print(
        f"{sum(counts.values())} models from {options.first} on: {dict(counts)}; processor seconds each: "
        f"{statistics.median(seconds):.1f} in the middle, {max(seconds):.0f} at most"
    )
    sys.exit(any(counts[kind] for kind in ("wrong", "error", "slow")))


if __name__ == "__main__":
    main()
