"""When training rests, and when it goes on: decided by guard losses and the user's limits.

Early stopping with patience (Prechelt, "Early Stopping: But When?", 1998), with two changes. What is compared is the
loss of the personal model on the guard split, which neither training nor trust scoring ever reads. And the end of
patience is a rest, not a stop: the peer goes on to merge, and one better round sets it to training again.

A gain has to exceed `Settings.min_gain` (nats a token), or noise in the last digits would keep it training for ever.
Rounds that were not measured (None) count neither way. Text that changes resets all of it (`round.text_changed`), since
losses on other text cannot be compared.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from p2pfinetune.names import Round
from peerd.core.state import Node


def is_gain(guard: float, best: float | None, min_gain: float) -> bool:
    """Whether a guard loss is better than the best so far by more than noise."""
    return best is None or guard < best - min_gain


def waited_rounds(guards: Iterable[float | None], min_gain: float) -> int:
    """Rounds since the guard loss (of the personal model, oldest first) last improved; unmeasured rounds count not."""
    best: float | None = None
    waited = 0
    for guard in guards:
        if guard is None:
            continue
        if is_gain(guard, best, min_gain):
            best, waited = guard, 0
        else:
            waited += 1
    return waited


def judged(node: Node, guard: float | None) -> Node:
    """The node after a round that ended with this guard loss."""
    if guard is None:
        return node
    if is_gain(guard, node.best, node.settings.min_gain):
        return replace(node, best=guard, waited_rounds=0)
    return replace(node, waited_rounds=node.waited_rounds + 1)


def exhausted(node: Node, round_: Round) -> str:
    """Why there is no training any more whatever happens; empty if there is."""
    settings = node.settings
    if settings.rounds and round_ > settings.rounds:
        return "the one round is done" if settings.rounds == 1 else f"all {settings.rounds} rounds are done"
    if settings.total_steps and node.steps >= settings.total_steps:
        return f"all {settings.total_steps} steps are done"
    return ""


def why_rest(node: Node, round_: Round) -> str:
    """Why `round_` does not begin with training; empty if it does."""
    if node.waited_rounds >= node.settings.patience:
        return exhausted(node, round_) or f"no better guard loss in {node.waited_rounds} rounds"
    return exhausted(node, round_)
