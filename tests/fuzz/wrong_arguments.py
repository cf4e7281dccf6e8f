"""Arguments of wrong kinds to public functions: an error that names the argument, or an answer; never a hang.

Run: python tests/fuzz/wrong_arguments.py [--calls 2000] [--seed 0]
One argument of a call that is right otherwise is replaced. TypeError, ValueError and the library's own errors
that name it are what is expected; what comes out of another library's inside is not.
"""

import argparse
import collections
import contextlib
import linecache
import math
import random
import resource
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from public_calls import calls

import sdeppl as sp

OWN = (
    TypeError,
    ValueError,
    KeyError,
    sp.BackendUnavailable,
    sp.NonFiniteState,
    sp.OutOfMemory,
    OSError,
    ImportError,
)
SECONDS = 30
MEMORY = 12 * 2**30  # of addresses: what asks for more than the machine has ends at once


class Thing:
    """Nothing that anything expects."""


WRONG: list[Any] = [
    None,
    "x",
    "",
    b"x",
    -1,
    0,
    10**12,
    10**30,
    1.5,
    -2.5,
    math.nan,
    math.inf,
    -math.inf,
    1e308,
    True,
    1j,
    [],
    {},
    (),
    set(),
    [1.0, "a"],
    [None],
    {"a": 1},
    Thing(),
    Thing,
    int,
    len,
    np.array([]),
    np.zeros((2, 3, 4)),
    np.array(["a"]),
    np.array([math.nan]),
    torch.zeros(3, 3),
    torch.tensor(math.nan),
    np.datetime64("2020-01-01"),
]


def outcome(function: Callable[..., Any], arguments: dict[str, Any], name: str) -> str:
    """'answered', 'refused' with the argument's name, 'unnamed', or what else came of it."""

    def late(*_: Any) -> None:
        raise TimeoutError(f"a hang: more than {SECONDS} s")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        function(**arguments)
    except TimeoutError as error:
        return f"bad: {error}"
    except OWN as error:
        if name in str(error) or _is_own(error):
            return "refused"
        if callable(arguments[name]) or name in (
            "args",
            "kwargs",
        ):  # taken for what it is, or by the user's model
            return "answered"
        return f"unnamed: {type(error).__name__}: {str(error)[:160]}"
    except Exception as error:  # which is what is looked for
        return f"bad: {type(error).__name__}: {str(error)[:160]}"
    finally:
        signal.alarm(0)
    return "answered"


def _is_own(error: BaseException) -> bool:
    """Whether the library raised it by itself, and no operation inside of it did."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    if at is None:
        return False
    file = at.tb_frame.f_code.co_filename
    line = linecache.getline(file, at.tb_lineno).strip()
    return file.startswith(str(Path(sp.__file__).parent)) and line.startswith("raise")


def run(count: int, seed: int, only: str = "") -> tuple[collections.Counter[str], dict[str, str]]:
    """How many calls came out how, and those that are neither answered nor refused, by call and argument."""
    torch.set_num_threads(1)
    rng, counts, bad = random.Random(seed), collections.Counter[str](), dict[str, str]()
    table = [call for call in calls() if only in call[0]]
    pairs = [(label, f, given, name) for label, f, given in table for name in given]
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        warnings.simplefilter("ignore")
        for _ in range(count):
            label, function, given, name = rng.choice(pairs)
            wrong = rng.choice(WRONG)
            came = outcome(function, {**given, name: wrong}, name)
            counts[came.split(":")[0]] += 1
            if ":" in came:
                bad[f"{label}({name}={wrong!r:.40})".replace("\n", " ")] = came
    return counts, bad


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="calls whose name holds this")
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    began = time.process_time()
    counts, bad = run(arguments.calls, arguments.seed, arguments.only)
    for call, came in sorted(bad.items()):
        print(f"{call}: {came}".replace("\n", " "))
    print(f"{arguments.calls} calls: {dict(counts)}, {time.process_time() - began:.0f} s")
    sys.exit(any(came.startswith("bad") for came in bad.values()))


if __name__ == "__main__":
    main()
