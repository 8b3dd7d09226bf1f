"""What a soak run has to say for itself."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence

from tests.soak.longer import Outcome
from tests.soak.peer import Peer
from tests.soak.schedule import START_SECONDS
from tests.soak.verdict import Life, longest_gap


def as_text(
    peers: Sequence[Peer],
    told: Sequence[str],
    found: Sequence[str],
    seconds: float,
    stopping: float,
    why_not: str,
    outcomes: Sequence[Outcome],
) -> str:
    """Markdown."""
    lines = [f"# Soak: {len(peers)} daemons, {seconds / 60:.0f} minutes", ""]
    lines += ["All was well." if not found else f"{len(found)} faults:", *(f"- {sentence}" for sentence in found), ""]
    if why_not:
        lines += [f"No cuts, partitions or slow links in this run: {why_not}", ""]
    lines += [
        "| peer | rounds | longest gap, s | starts | away, s | daemon MiB, then, at the end | worker | descriptors |"
    ]
    lines += ["|---|---:|---:|---:|---:|---|---|---|"]
    lines += [_row(peer, seconds) for peer in peers]
    refused: Counter[str] = Counter()
    for peer in peers:
        refused.update(peer.status.refused if peer.status is not None else {})
    counts = ", ".join(f"{reason} {count}" for reason, count in refused.most_common()) or "nothing"
    lines += ["", f"Refused since each one's last start: {counts}.", f"All stopped within {stopping:.0f} s.", ""]
    for outcome in outcomes:
        lines += [
            f"## {outcome.name}: {'fine' if not outcome.code else outcome.code}",
            "",
            "```",
            outcome.last_words,
            "```",
            "",
        ]
    lines += ["## What went wrong", "", "```", *told, "```", ""]
    return "\n".join(lines)


def _row(peer: Peer, seconds: float) -> str:
    life = peer.life
    gap = longest_gap(life, seconds, START_SECONDS)
    away = sum(end - start for start, end in life.away)
    rounds = life.seen[-1].rounds if life.seen else 0
    memory = [
        f"{_middle(life, what, 0.25, 0.5):.0f}, {_middle(life, what, 0.75, 1.01):.0f}" for what in ("rss", "worker_rss")
    ]
    handles = f"{_middle(life, 'descriptors', 0.25, 0.5, 1):.0f}, {_middle(life, 'descriptors', 0.75, 1.01, 1):.0f}"
    return f"| {life.name} | {rounds} | {gap.seconds:.0f} | {peer.starts} | {away:.0f} | {memory[0]} | {memory[1]} | {handles} |"


def _middle(life: Life, what: str, begin: float, end: float, unit: int = 2**20) -> float:
    last = life.seen[-1].at if life.seen else 0.0
    values = [getattr(s, what) / unit for s in life.seen if begin * last <= s.at < end * last and getattr(s, what)]
    return statistics.median(values) if values else 0.0
