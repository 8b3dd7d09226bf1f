"""What the state means, in sentences a person understands, with the next thing to type. Pure."""

from __future__ import annotations

from peerd.status import Status

WORTH_SAYING = 0.005  # perplexities nearer than half a percent are called equal


def headline(status: Status) -> str:
    """The daemon's own sentence; it always says something."""
    return status.sentence or f"{status.state}, round {status.round}"


def verdict(status: Status) -> str:
    """Is my model getting better? Empty while nothing is measured."""
    now = status.perplexity
    if now.personal is None or now.base is None:
        return ""
    parts = [f"{_compared(now.personal, now.base)} than the base model"]
    if now.local is not None:
        parts.append(f"{_compared(now.personal, now.local)} than its twin that trains alone")
    return f"On your own held-out text the personal model is {' and '.join(parts)}."


def advice(status: Status) -> list[str]:
    """What a person should do now; nothing where all is well."""
    asked = list(status.health.reasons)
    if not status.neighbours and status.state not in {"starting", "stopping"} and not asked:
        asked.append(
            "No peer found yet. Type: peerd start --bootstrap MULTIADDR (from whoever runs the rendezvous node), "
            "or --lan to look on this network; stop the daemon first with: peerd stop"
        )
    return asked


def _compared(mine: float, other: float) -> str:
    change = (mine - other) / other if other else 0.0
    if abs(change) < WORTH_SAYING:
        return "no better and no worse"
    return (
        f"{abs(change):.0%} {'better' if change < 0 else 'worse'}"
        if abs(change) >= 0.01
        else f"{abs(change):.1%} {'better' if change < 0 else 'worse'}"
    )
