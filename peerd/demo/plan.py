"""What the demo will do, decided before anything starts: who takes part, with what text and which settings. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from p2pfinetune.names import PeerId
from p2pfinetune.options import INT64, NANO
from p2pfinetune.options.sections import Section
from peerd.config import Config

if TYPE_CHECKING:
    from p2pfinetune.data.documents import Document

KINDS = ("prose", "python", "cpp")
MIN_PEERS, MAX_PEERS = 2, 12  # a pair is the least that can collaborate; more than a dozen only wait for each other
STEPS_PER_ROUND = 8
MAX_ROUNDS = 10_000  # some days
SHARE_BYTES = 30_000  # of text a peer: too little to fine-tune on alone, which is the point
TEST_TOKENS = 20_000  # on fewer, a difference of one or two per cent cannot be told from none
TEST_BYTES = {"prose": 71_000, "python": 62_000, "cpp": 51_000}  # a little above TEST_TOKENS of each kind
OWN_TEST_BYTES = 75_000  # of a folder of the user's
CONTEXT = 128  # tokens
MODEL = NANO


class DemoOptions(Section):
    """What the user chose."""

    peers: Annotated[
        int,
        Meta(ge=MIN_PEERS, le=MAX_PEERS, description="Daemons to start; pairs with the same kind of text."),
    ] = 6
    rounds: Annotated[int, Meta(ge=1, le=MAX_ROUNDS, description="Rounds each.")] = 8
    trust: Annotated[str, Meta(description="Trust scheme.")] = "validation"
    data: Annotated[Path | None, Meta(description="Own text: one sub-folder a peer, of which some is held out.")] = None
    seed: Annotated[int, Meta(ge=0, le=INT64, description="Of the text dealt and of training.")] = 0
    keep: Annotated[bool, Meta(description="Leave the daemons running.")] = False
    report: Annotated[Path | None, Meta(description="Where the report goes.")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One peer of the demo, before it starts."""

    name: str
    domain: str
    text: Path
    home: Path
    peer_id: PeerId
    test: tuple[Document, ...] = ()
    """What its models are measured on; its daemon never sees it."""


def kinds_of(peers: int) -> list[str]:
    """The kind of text of each peer: pairs first, then dealt around, neighbours in the list of one kind."""
    kinds = KINDS[: min(len(KINDS), max(1, peers // 2))]
    return sorted((kinds[i % len(kinds)] for i in range(peers)), key=KINDS.index)


def names_of(domains: list[str]) -> list[str]:
    """`python-1`, `python-2`, ... in the order given."""
    seen: dict[str, int] = {}
    names = []
    for domain in domains:
        seen[domain] = seen.get(domain, 0) + 1
        names.append(f"{domain}-{seen[domain]}")
    return names


def shares_of(members: list[Member]) -> dict[str, tuple[float, ...]]:
    """Declared category shares by peer, for the `oracle` scheme: each peer holds one kind of text alone."""
    domains = sorted({member.domain for member in members})
    return {m.peer_id: tuple(float(m.domain == domain) for domain in domains) for m in members}


def config_of(member: Member, members: list[Member], options: DemoOptions, bootstrap: str, group: str) -> Config:
    """Settings of one daemon: small batches of short sequences, so that six fit on two cores for some minutes."""
    return Config(
        name=member.name,
        data=(str(member.text),),
        model=MODEL,
        group=group,
        bootstrap=(bootstrap,),
        listen=("/ip4/127.0.0.1/tcp/0",),
        trust=options.trust,
        twin="on",
        rounds=options.rounds,
        steps_per_round=STEPS_PER_ROUND,
        batch_size=4,
        context=CONTEXT,
        lr=6e-3,  # all steps together are few
        total_steps=options.rounds * STEPS_PER_ROUND,
        trust_tokens=1500,
        guard_tokens=2000,
        collect_seconds=45.0,
        max_neighbours=MAX_PEERS,
        threads=1,
        precision="fp32",  # the same on every machine, whatever its processor has
        seed=options.seed,
        shares=shares_of(members) if options.trust == "oracle" else {},
    )
