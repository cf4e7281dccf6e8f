"""Commands that must succeed."""

import subprocess


def run(*words, **options):
    finished = subprocess.run([str(w) for w in words], capture_output=True, text=True, **options)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished
