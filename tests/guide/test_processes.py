"""Posteriors in processes that are forked or spawned, after torch had threads of its own.

Each starts from a script of its own, since the tests' process has one thread.
"""

import multiprocessing
import os
import subprocess
import sys
import threading
from pathlib import Path

import pyro
import pytest
from pyro.poutine.runtime import _PYRO_STACK
from together import in_process

from sdeppl.backend.sharing import SHARED
from sdeppl.tracing.randomness import seeded

TESTS = Path(__file__).resolve().parents[1]

SCRIPT = """
import multiprocessing, sys
import sent_models, torch
import sdeppl as sp
from together import in_process

torch.set_num_threads(2)

def guide():
    return sp.ScoreGuide(sent_models.bent).fit_gaussian(2_000, progress=False)

def sample(queue):
    a = torch.randn(300, 300, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.linalg.solve(a, a.exp())  # large enough for several threads
    queue.put((guide().condition(y=sent_models.DATA[sent_models.bent], steps=20).sample(10)["b"].tolist(),
               torch.get_num_threads()))

class Own:
    def put(self, value):
        self.value = value

if __name__ == "__main__":
    here = Own()
    sample(here)
    assert here.value[1] == 2, here.value
    for method in multiprocessing.get_all_start_methods():
        there, threads = in_process(multiprocessing.get_context(method), sample, seconds=100)
        print(method, max(abs(one - other) for one, other in zip(here.value[0], there)), threads)
"""


def test_a_process_has_the_parents_draws(tmp_path):
    """However it starts: torch's pool of threads does not outlive a fork, and what wants it would hang."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    path = os.pathsep.join([str(TESTS), str(TESTS.parent / "src")])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "", "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stderr
    found = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()}
    assert set(found) == set(multiprocessing.get_all_start_methods())
    assert all(float(largest) < 1e-9 for largest, _ in found.values())
    if "fork" in found:
        assert found["fork"][1] == "1"


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_a_fork_waits_until_no_other_thread_is_inside_a_model():
    """The child would have half of that thread's handlers, and a lock that nobody releases."""
    inside, leave = threading.Event(), threading.Event()

    def busy():
        with seeded(1), pyro.poutine.trace():
            inside.set()
            leave.wait(20)

    def child(queue):
        free = SHARED.acquire(timeout=5)
        queue.put((free, len(_PYRO_STACK)))

    thread = threading.Thread(target=busy, daemon=True)
    thread.start()
    inside.wait(10)
    threading.Timer(0.3, leave.set).start()
    assert in_process(multiprocessing.get_context("fork"), child, seconds=60) == (True, 0)
    thread.join(10)
