"""Panel: the worker process and the event loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from peerd.control.panels._base import Drawing, Fact, Panel, Words
from peerd.control.render import duration, printable
from peerd.control.words import refusals, twin
from peerd.status import RoundRecord, Status

MAX_CALLBACK_MS = 100.0  # the design's bound on CPU time of one callback


@dataclass(frozen=True, slots=True, kw_only=True)
class MachinePanel(Panel):
    """The worker is the child process that computes; the daemon's own loop should never be held for 100 ms."""

    title = "This machine"
    order = 70

    def draw(self, status: Status, rounds: Sequence[RoundRecord]) -> Drawing:
        """Worker, loop, what runs, and what failed."""
        worker, loop, failures = status.worker, status.loop, status.failures
        failed = sum(failures.counts.values())
        held = loop.max_callback_cpu_ms
        facts = [
            Fact(
                label="worker", value=worker.state, unit="text", tone="bad" if worker.state == "restarting" else "plain"
            ),
            Fact(label="device", value=worker.device or None, unit="text"),
            Fact(label="trains in", value=worker.precision or None, unit="text"),
            Fact(label="speed, tokens", value=worker.tokens_per_second, unit="rate"),
            Fact(label="restarts", value=worker.restarts, unit="number", tone="warn" if worker.restarts else "plain"),
            Fact(
                label="loop held at most",
                value=held,
                unit="milliseconds",
                tone="warn" if held > MAX_CALLBACK_MS else "plain",
            ),
            Fact(label="loop lag at most", value=loop.max_lag_ms, unit="milliseconds"),
            Fact(label="failed", value=failed, unit="number", tone="bad" if failed else "plain"),
            Fact(label="model", value=status.model, unit="text"),
            Fact(label="trust scheme", value=status.trust_scheme, unit="text"),
        ]
        sentences = [f"Trained in {worker.precision}: {worker.precision_why}."] if worker.precision_why else []
        if worker.twin:
            sentences.append(f"Twin: {twin(status)}.")
        if worker.memory.said:
            done = f" ({worker.memory.measures})" if worker.memory.measures else ""
            sentences.append(f"Memory: it {worker.memory.said}{done}.")
        if worker.last_error:
            sentences.append(f"Last error of the worker: {worker.last_error}")
        if failed:
            last = f"the last one, {duration(failures.last_seconds or 0.0)} ago: {printable(failures.last)}"
            sentences.append(f"Failed since the start: {refusals(failures.counts)}; {last}.")
        if status.turned_away:
            sentences.append(f"Strangers on the network that were turned away: {refusals(status.turned_away)}.")
        return Words(facts=facts, sentences=sentences)
