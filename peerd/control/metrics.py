"""The daemon's figures as Prometheus text: another view of the one snapshot. Never loads torch, keeps no state.

Labels come from strangers, so they are short, few and plain: peer ids and reasons of refusals, no display names.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from peerd.status import NeighbourNow, RoundRecord, Status

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MAX_PEERS = 64  # with figures of their own: the connected and the most refused; a neighbourhood has sixteen
MAX_LABEL = 64  # characters
STANDINGS = ("good", "throttled", "banned")

_ODD = re.compile(r"[^A-Za-z0-9_.-]")


def exposition(status: Status, rounds: Sequence[RoundRecord]) -> bytes:
    """All figures of this moment. `rounds` holds the last one, if any has ended."""
    registry = CollectorRegistry()  # of our own: nothing that a library counts by itself gets in
    registry.register(_Snapshot(status, rounds))
    ProcessCollector(registry=registry)  # memory and file descriptors, where the system tells them
    return generate_latest(registry)


def label(text: str) -> str:
    """What of a stranger's text may be a label's value."""
    return _ODD.sub("_", text[:MAX_LABEL])


class _Snapshot(Collector):
    """Families of metrics from one snapshot."""

    def __init__(self, status: Status, rounds: Sequence[RoundRecord]) -> None:
        self._status, self._rounds = status, rounds

    def collect(self) -> Iterator[Metric]:
        yield from self._learning()
        yield from self._company()
        yield from self._machine()

    def _learning(self) -> Iterator[Metric]:
        now, last = self._status, self._rounds[-1] if self._rounds else None
        yield _gauge("round", "Round that the daemon is in; it goes on over restarts.", now.round)
        yield _gauge("round_seconds", "How long the last full round of this run took.", now.round_seconds)
        yield _gauge(
            "last_round_accepted",
            "1 where the guard refused nothing in the last round.",
            last.accepted if last else None,
        )
        yield _gauge("last_taken_merge_round", "Round of the last merge that the guard took.", now.merges.round)
        yield _gauge("merges_refused_in_a_row", "Merges that were not taken since.", now.merges.refused)
        losses = {"train": now.loss.train, "trust": now.loss.trust, "guard": now.loss.guard}
        yield _gauges("loss_nats", "Mean cross-entropy of the personal model, nats a token.", "split", losses)
        perplexity = now.perplexity
        models = {name: getattr(perplexity, name) for name in perplexity.__struct_fields__}
        yield _gauges("perplexity", "On the guard split.", "model", models)
        yield _gauge("tokens_per_second", "Speed of training.", now.worker.tokens_per_second)

    def _company(self) -> Iterator[Metric]:
        now = self._status
        connected = sum(peer.connected for peer in now.neighbours)
        yield _gauge("peers_connected", "Peers of my network with a connection.", connected)
        standings = Counter(peer.standing for peer in now.neighbours if peer.standing != "banned")
        counts = {**dict.fromkeys(STANDINGS, 0), **standings, "banned": len(now.banned)}
        yield _gauges("peers", "Peers by how they stand.", "standing", counts)
        copying = sum(peer.copy_of is not None for peer in now.neighbours)
        yield _gauge("peers_copying", "Peers whose update was a copy of another's.", copying)
        refusals = CounterMetricFamily("peerd_refusals", "What was refused in this run.", labels=["reason"])
        for reason, count in sorted(now.refused.items()):
            refusals.add_metric([label(reason)], count)
        yield refusals
        strangers = CounterMetricFamily("peerd_turned_away", "What strangers tried in vain.", labels=["kind"])
        for kind, count in sorted(now.turned_away.items()):
            strangers.add_metric([label(kind)], count)
        yield strangers
        by_peer = CounterMetricFamily("peerd_peer_refusals", "What was refused, by peer.", labels=["peer", "reason"])
        trust = GaugeMetricFamily("peerd_peer_trust", "Weight in the last merge that was taken.", labels=["peer"])
        traffic = CounterMetricFamily("peerd_peer_bytes", "Bytes since the start.", labels=["peer", "direction"])
        for peer in sorted(now.neighbours, key=_worth_telling)[:MAX_PEERS]:
            for reason, count in sorted(peer.refused.items()):
                by_peer.add_metric([label(peer.peer_id), label(reason)], count)
            trust.add_metric([label(peer.peer_id)], peer.trust)
            traffic.add_metric([label(peer.peer_id), "in"], peer.bytes_in)
            traffic.add_metric([label(peer.peer_id), "out"], peer.bytes_out)
        yield by_peer
        yield trust
        yield traffic
        total = CounterMetricFamily("peerd_bytes", "Bytes since the start, all peers together.", labels=["direction"])
        total.add_metric(["in"], now.traffic.bytes_in)
        total.add_metric(["out"], now.traffic.bytes_out)
        yield total

    def _machine(self) -> Iterator[Metric]:
        now = self._status
        info = {"version": now.version, "model": label(now.model), "trust_scheme": label(now.trust_scheme)}
        yield InfoMetricFamily("peerd", "What runs.", info)
        yield _gauge("uptime_seconds", "Since the daemon started.", now.uptime_seconds)
        yield _gauge("healthy", "1 where nothing is wrong; peerd status says what is.", now.health.ok)
        yield _counter("worker_restarts", "Deaths of the worker process.", now.worker.restarts)
        failures = CounterMetricFamily("peerd_failures", "What failed that nobody foresaw.", labels=["what"])
        for what, count in sorted(now.failures.counts.items()):
            failures.add_metric([label(what)], count)
        yield failures
        yield _counter("dropped_events", "Announcements and hints that a flood drowned.", now.dropped)
        yield _gauge("loop_max_callback_cpu_seconds", "Of the event loop.", now.loop.max_callback_cpu_ms / 1000)
        yield _gauge("loop_max_lag_seconds", "Of the event loop, other processes included.", now.loop.max_lag_ms / 1000)


def _gauge(name: str, said: str, value: float | None) -> Metric:
    """One number; none if it was not measured."""
    return GaugeMetricFamily(f"peerd_{name}", said, value=value)


def _gauges(name: str, said: str, by: str, values: dict[str, float | None] | dict[str, int]) -> Metric:
    family = GaugeMetricFamily(f"peerd_{name}", said, labels=[by])
    for value_of, value in values.items():
        if value is not None:
            family.add_metric([value_of], value)
    return family


def _counter(name: str, said: str, value: int) -> Metric:
    return CounterMetricFamily(f"peerd_{name}", said, value=value)


def _worth_telling(peer: NeighbourNow) -> tuple[bool, int, str]:
    return (not peer.connected, -sum(peer.refused.values()), peer.peer_id)
