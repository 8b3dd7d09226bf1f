"""What came out of the demo, as values: the document of `peerd demo --json` and the figures drawn from it. Pure."""

from __future__ import annotations

from statistics import fmean

import msgspec

from p2pfinetune.names import PeerId


class DemoPerplexity(msgspec.Struct, frozen=True, kw_only=True):
    """On the test split, which nothing else has seen."""

    base: float
    local: float | None
    own: float
    personal: float


class DemoPeer(msgspec.Struct, frozen=True, kw_only=True):
    """One peer at the end."""

    name: str
    peer_id: PeerId
    domain: str
    perplexity: DemoPerplexity
    trust: dict[PeerId, float]
    """Its last row, own id included."""
    rounds: int
    accepted: int
    """Merges that its guard let pass."""
    bytes_in: int
    bytes_out: int
    refused: dict[str, int]


class DemoResult(msgspec.Struct, frozen=True, kw_only=True):
    """The whole document."""

    peers: list[DemoPeer]
    seconds: float
    report: str
    trust_scheme: str
    same_kind_share: float | None
    """Of the weight that peers give to others, the part that goes to peers with the same kind of text."""
    gain_over_local: float | None
    """1 - mean personal perplexity / mean local-only perplexity; positive where collaboration helped."""


def same_kind_share(peers: list[DemoPeer]) -> float | None:
    """Mean over peers that give any weight away; None where nobody does."""
    domain = {peer.peer_id: peer.domain for peer in peers}
    shares = []
    for peer in peers:
        others = {p: w for p, w in peer.trust.items() if p != peer.peer_id}
        if (given := sum(others.values())) > 0:
            shares.append(sum(w for p, w in others.items() if domain.get(p) == peer.domain) / given)
    return fmean(shares) if shares else None


def gain_over_local(peers: list[DemoPeer]) -> float | None:
    """How much lower the mean personal perplexity is than the mean local-only one, as a share of the latter."""
    pairs = [(p.perplexity.personal, p.perplexity.local) for p in peers if p.perplexity.local is not None]
    if not pairs:
        return None
    return 1.0 - fmean(personal for personal, _ in pairs) / fmean(local for _, local in pairs if local is not None)


def verdict(result: DemoResult) -> list[str]:
    """What the figures say, in sentences."""
    sentences = []
    if result.same_kind_share is not None:
        chance = expected_by_chance(result.peers)
        sentences.append(
            f"Of the weight that peers gave to others, {result.same_kind_share:.0%} went to the same kind of text "
            f"({chance:.0%} if they had trusted everybody alike)."
        )
    if result.gain_over_local is not None:
        local = fmean(p.perplexity.local for p in result.peers if p.perplexity.local is not None)
        personal = fmean(p.perplexity.personal for p in result.peers)
        word = "lower" if result.gain_over_local >= 0 else "HIGHER"
        sentences.append(
            f"Mean perplexity on unseen text: {personal:.2f} with collaboration, {local:.2f} trained alone: "
            f"{abs(result.gain_over_local):.1%} {word}."
        )
    return sentences


def expected_by_chance(peers: list[DemoPeer]) -> float:
    """The same-kind share of a peer that trusts all others alike, averaged."""
    if len(peers) < 2:
        return 0.0
    same = [sum(o.domain == p.domain for o in peers) - 1 for p in peers]
    return fmean(same) / (len(peers) - 1)
