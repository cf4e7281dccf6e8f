"""Running functions in threads and processes, where a hang is a failure and not a hung run of the tests."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

SECONDS = 120


def in_threads(functions: Sequence[Callable[[], Any]], seconds: float = SECONDS) -> list[Any]:
    """What each gives, or the exception that it ends in, all begun at once."""
    found: list[Any] = [None] * len(functions)
    gate = threading.Barrier(len(functions))

    def run(index: int) -> None:
        gate.wait()
        try:
            found[index] = functions[index]()
        except Exception as error:
            found[index] = error

    threads = [threading.Thread(target=run, args=(i,), daemon=True) for i in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds)
    assert not any(thread.is_alive() for thread in threads), f"a thread hangs, after {seconds} s"
    return found


def in_process(context: Any, function: Callable[..., Any], *arguments: Any, seconds: float = SECONDS) -> Any:
    """What function(queue, *arguments) puts on the queue in another process."""
    queue = context.SimpleQueue()
    process = context.Process(target=function, args=(queue, *arguments), daemon=True)
    process.start()
    process.join(seconds)
    hangs = process.is_alive()
    if hangs:
        process.kill()
    assert not hangs, f"the process hangs, after {seconds} s"
    assert process.exitcode == 0
    return queue.get()
