"""What came out of the demo, as values: the document of `peerd demo --json` and the sentences drawn from it. Pure.

A sentence says no more than its figures carry: of a difference whose 95 % interval holds zero it says that none can be
seen, and the headline is the mean over peers with its interval. Both are of the text that was drawn to measure on;
another run, seed or machine moves the figures, too, and the report says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Annotated

import msgspec
from msgspec import Meta

from p2pfinetune.names import PeerId, Served
from p2pfinetune.scoring.difference import Difference
from p2pfinetune.scoring.perplexity import as_change
from peerd.demo.plan import TEST_TOKENS

MANY = 10.0  # times: more is told in words
SERVED = {
    "personal": "the personal one", "best": "the best so far", "local": "the one that trained alone",
    "mixture": "a mixture of predictions",
}  # fmt: skip


class DemoPerplexity(msgspec.Struct, frozen=True, kw_only=True):
    """On text that nothing else has seen."""

    base: float
    local: Annotated[
        float,
        Meta(description="Trained alone: to the end, or stopped at its best, whichever is better on this very text."),
    ]
    served: Annotated[float, Meta(description="What `generate` and `export` give; see `DemoPeer.served`.")]


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Of perplexity, served against alone: -0.08 is 8 % lower. `low` to `high` is the 95 % interval."""

    mean: float
    low: Annotated[float | None, Meta(description="Null if too few texts were measured on to say anything.")]
    high: float | None
    is_seen: Annotated[bool, Meta(description="The interval leaves out zero.")]

    @property
    def is_none(self) -> bool:
        """What is served is what trained alone."""
        return self.mean == self.low == self.high == 0.0

    @classmethod
    def of(cls, found: Difference) -> Change:
        """In terms of perplexity."""
        low, high = (as_change(nats) if math.isfinite(nats) else None for nats in found.interval)
        return cls(mean=as_change(found.nats), low=low, high=high, is_seen=found.is_seen)


class DemoPeer(msgspec.Struct, frozen=True, kw_only=True):
    """One peer at the end."""

    name: str
    peer_id: PeerId
    domain: str
    test_tokens: Annotated[int, Meta(description="What its perplexities and its change are measured on.")]
    test_texts: Annotated[int, Meta(description="How many sources those tokens are of: what the interval counts.")]
    served: Annotated[
        Served,
        Meta(
            description="Which of its models that is: a peer whose twin did better on its guard split is served "
            "the best that it has."
        ),
    ]
    perplexity: DemoPerplexity
    against_alone: Change
    trust: Annotated[
        dict[PeerId, float],
        Meta(
            description="The row of the last merge that its guard let pass, own id included; all its own where "
            "there was none."
        ),
    ]
    rounds: int
    accepted: Annotated[int, Meta(description="Merges that its guard let pass.")]
    bytes_in: int
    bytes_out: int
    refused: dict[str, int]


class DemoResult(msgspec.Struct, frozen=True, kw_only=True):
    """The whole document."""

    peers: list[DemoPeer]
    seconds: float
    report: str
    seed: int
    trust_scheme: str
    same_kind_share: Annotated[
        float | None,
        Meta(
            description="Of the weight that peers give to others, the part that goes to peers with the same kind "
            "of text."
        ),
    ]
    against_alone: Annotated[Change, Meta(description="Mean over peers, in nats a token, each peer counting alike.")]
    worst_tenth: Annotated[
        float, Meta(description="Mean change of the tenth of the peers that came off worst, of at least one.")
    ]


def same_kind_share(peers: Sequence[DemoPeer]) -> float | None:
    """Mean over peers that give any weight away; None if nobody does."""
    domain = {peer.peer_id: peer.domain for peer in peers}
    shares = []
    for peer in peers:
        others = {p: w for p, w in peer.trust.items() if p != peer.peer_id}
        if (given := sum(others.values())) > 0:
            shares.append(sum(w for p, w in others.items() if domain.get(p) == peer.domain) / given)
    return fmean(shares) if shares else None


def verdict(result: DemoResult) -> list[str]:
    """What the figures say, in sentences."""
    peers = result.peers
    return [*of_trust(result), headline(result), *by_peer(peers), *of_others_served(peers), *of_little_text(peers)]


def of_trust(result: DemoResult) -> list[str]:
    """Whether peers found those who are like them."""
    if result.same_kind_share is None:
        return []
    chance = expected_by_chance(result.peers)
    weight = f"Of the weight that peers gave to others, {result.same_kind_share:.0%} went to the same kind of text"
    return [f"{weight} ({chance:.0%} if they had trusted everybody alike)."]


def headline(result: DemoResult) -> str:
    """The mean with its interval."""
    who = f"Perplexity of what peers are served against training alone, mean of {len(result.peers)} peers"
    return f"{who}: {said(result.against_alone)}."


def by_peer(peers: Sequence[DemoPeer]) -> list[str]:
    """For whom it was lower, higher or neither; and who came off worst."""
    lower = [peer.name for peer in peers if peer.against_alone.is_seen and peer.against_alone.mean < 0]
    higher = [peer.name for peer in peers if peer.against_alone.is_seen and peer.against_alone.mean > 0]
    unseen = [peer.name for peer in peers if not peer.against_alone.is_seen]
    parts = [
        f"lower for {len(lower)}",
        f"HIGHER for {named(higher)}",
        f"no difference that can be seen for {named(unseen)}",
    ]
    worst = max(peers, key=lambda peer: peer.against_alone.mean)
    return [
        f"Peer by peer: {', '.join(parts)}.",
        f"Worst off is {worst.name}: {said(worst.against_alone)}.",
        "The intervals say how far other text of the kind would move a figure; another run or seed moves it, too.",
    ]


def of_others_served(peers: Sequence[DemoPeer]) -> list[str]:
    """Who is not served the personal model, and what instead."""
    instead = [f"{peer.name} ({SERVED[peer.served]})" for peer in peers if peer.served != "personal"]
    if not instead:
        return []
    return [f"Served another model than the personal one, since it is behind the twin on guard: {', '.join(instead)}."]


def of_little_text(peers: Sequence[DemoPeer]) -> list[str]:
    """Who is measured on less than was meant, and why."""
    few = [f"{peer.name} {peer.test_tokens:,}" for peer in peers if peer.test_tokens < TEST_TOKENS]
    if not few:
        return []
    return [f"Measured on fewer than {TEST_TOKENS:,} tokens, since there is no more such text here: {', '.join(few)}."]


def named(names: Sequence[str]) -> str:
    return f"{len(names)} ({', '.join(names)})" if names else "none"


def said(change: Change) -> str:
    """A change in words, with its interval."""
    if change.is_none:
        return "no difference, since what is served is what trained alone"
    if change.low is None or change.high is None:
        return "no difference that can be seen, since there is too little text to measure on"
    span = f"95 % interval: {span_words(change.low, change.high)}"
    return f"{words(change.mean)} ({span})" if change.is_seen else f"no difference that can be seen ({span})"


def words(change: float) -> str:
    """`8.1 % lower`, `0.8 % HIGHER`."""
    if change > MANY:
        return f"over {MANY:.0f} times HIGHER"
    return f"{abs(change):.1%} {'lower' if change <= 0 else 'HIGHER'}".replace("%", " %")


def span_words(low: float, high: float) -> str:
    """`9.5 to 6.7 % lower`, `1.2 % lower to 0.9 % higher`."""
    if low * high > 0 and abs(high) <= MANY:
        return f"{abs(low):.1%} to {abs(high):.1%} {'lower' if high < 0 else 'higher'}".replace("%", " %")
    return f"{words(low)} to {words(high)}".replace("HIGHER", "higher")


def expected_by_chance(peers: Sequence[DemoPeer]) -> float:
    """The same-kind share of a peer that trusts all others alike, averaged."""
    if len(peers) < 2:
        return 0.0
    same = [sum(o.domain == p.domain for o in peers) - 1 for p in peers]
    return fmean(same) / (len(peers) - 1)
