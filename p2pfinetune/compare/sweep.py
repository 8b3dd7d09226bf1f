"""Run many simulations, some at a time, each in its own folder; what is complete is never run again.

An interrupted sweep is resumed by the same call: complete runs are kept, broken ones go on from their checkpoints.
Simulations share nothing, so they run in processes of their own (threads would wait for one another's Python), with
torch's threads divided among them. Which ran beside which changes no number.
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty
from typing import Any

from p2pfinetune.compare.plan import Task
from p2pfinetune.errors import LearningError
from p2pfinetune.simulation.record import RESULT
from p2pfinetune.system import interpreter

POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Told:
    """How far one task is."""

    task: Task
    number: int
    """In the list of tasks, from 0."""
    visits: int
    total: int
    """Of visits; equal to `visits` when the task is done."""
    guard_loss: float | None = None


Tell = Callable[[Told], None]


def sweep(
    tasks: Sequence[Task], out: Path, *, workers: int = 0, tell: Tell = lambda _: None, fresh: bool = False
) -> list[Path]:
    """Run all that is not complete; their folders, in the order of the tasks.

    `workers`: processes, each with its part of the cores; 0: one a core. An error of one task ends the sweep, with the
    other tasks' folders ready to be gone on with.
    """
    pending = [(number, task) for number, task in enumerate(tasks) if fresh or not is_complete(out / task.folder)]
    for number, task in enumerate(tasks):
        if (number, task) not in pending:
            tell(Told(task, number, 1, 1))
    cores = os.cpu_count() or 1
    count = max(1, min(workers or cores, len(pending)))
    if count == 1:
        for number, task in pending:
            _run_here(task, number, out, tell, fresh=fresh)
    else:
        _run_apart(pending, out, count, max(1, cores // count), tell, fresh=fresh)
    return [out / task.folder for task in tasks]


def is_complete(folder: Path) -> bool:
    """Whether a run's folder holds its result."""
    return (folder / RESULT).exists()


def _run_here(task: Task, number: int, out: Path, tell: Tell, *, fresh: bool) -> None:
    from p2pfinetune.simulation.run import simulate

    simulate(
        task.config,
        out / task.folder,
        fresh=fresh,
        on_progress=lambda now: tell(Told(task, number, now.visits, now.total, now.guard_loss)),
    )


def _run_apart(
    pending: Sequence[tuple[int, Task]], out: Path, workers: int, threads: int, tell: Tell, *, fresh: bool
) -> None:
    """In processes of their own, which tell through one queue."""
    interpreter.guard_children()
    context = multiprocessing.get_context("spawn")
    queue: Any = context.Queue()
    by_number = dict(pending)
    pool = concurrent.futures.ProcessPoolExecutor(
        workers, mp_context=context, initializer=_begin, initargs=(queue, threads)
    )
    try:
        futures = {pool.submit(_run_there, task, number, out, fresh=fresh) for number, task in pending}
        while futures:
            done, futures = concurrent.futures.wait(
                futures, timeout=POLL_SECONDS, return_when=concurrent.futures.FIRST_EXCEPTION
            )
            _pass_on(queue, by_number, tell)
            for future in done:
                _raise(future.result())
        pool.shutdown()
    except BaseException:
        _end(pool)
        raise


def _raise(error: tuple[str, str] | None) -> None:
    if error is not None:
        raise LearningError(*error)


def _end(pool: concurrent.futures.ProcessPoolExecutor) -> None:
    """At once: the checkpoints of what runs are on the disk already."""
    children = list(getattr(pool, "_processes", {}).values())  # no public name before Python 3.14's terminate_workers
    pool.shutdown(wait=False, cancel_futures=True)
    for child in children:
        child.terminate()


def _pass_on(queue: Any, by_number: dict[int, Task], tell: Tell) -> None:
    while True:
        try:
            number, visits, total, guard_loss = queue.get_nowait()
        except Empty:
            return
        tell(Told(by_number[number], number, visits, total, guard_loss))


_queue: Any = None


def _begin(queue: Any, threads: int) -> None:
    """In a new process."""
    import signal

    import torch

    global _queue  # noqa: PLW0603  # a process of a pool has no other place for what its initializer is given
    _queue = queue
    torch.set_num_threads(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says when to end


def _run_there(task: Task, number: int, out: Path, *, fresh: bool) -> tuple[str, str] | None:
    """An error of ours as its words, since an exception with two arguments does not survive the way back."""
    try:
        _run_here(
            task, number, out, lambda told: _queue.put((number, told.visits, told.total, told.guard_loss)), fresh=fresh
        )
    except LearningError as error:
        return str(error), error.hint
    return None
