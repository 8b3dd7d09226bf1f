"""Every option of learning, as a person chooses it: real daemons over real libp2p, some rounds, a restart.

A row a way to learn. What is the same for all is asked of all: peers of the row's network hear one another, somebody
merges, and a daemon that was stopped goes on after its last round with what it had. What only one of them does is the
row's own check.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from safetensors.torch import load_file
from torch import Tensor

from p2pfinetune.names import PeerId, expert_of
from p2pfinetune.training.checkpoint import load_groups, load_values
from peerd.core.neighbours import Update
from peerd.daemon.resume import own_announcement
from peerd.store.sqlite import SqliteStore
from peerd.testing.replay import decoded, replayed
from peerd.wire.envelope import opened
from tests.e2e.conftest import Home, Town

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(600)]

ROUNDS = 3  # the first is a warm-up


def nothing_more(homes: Sequence[Home]) -> None:
    """What is asked of all is enough."""


@dataclass(frozen=True, slots=True)
class Row:
    """One network: what all its peers choose, and what each chooses beside that; as many peers as there are of those."""

    name: str
    all: Mapping[str, Any] = field(default_factory=dict)
    each: Sequence[Mapping[str, Any]] = ({}, {})
    check: Callable[[Sequence[Home]], None] = nothing_more
    """Of the daemons, while they run, after their rounds and the restart of the first."""


def weights_of(home: Home) -> dict[str, float]:
    """What CoBo keeps of its neighbours. The daemon is stopped for it."""
    assert home.stop() == 0
    kept = home.checkpoint()
    assert kept is not None
    tables = load_values(next(home.paths.blobs.rglob(kept.blob)), "learner")["trust"]["tables"]
    return {peer: weight for peer, weight in tables["weights"].items() if peer != home.peer_id}


def a_mixture_is_measured(homes: Sequence[Home]) -> None:
    """Which of the two is served, guard and trust split say; that there is one to be judged is what this row shows."""
    assert homes[0].rounds()[-1].guard_mixture is not None


def weights_have_moved_and_stay(homes: Sequence[Home]) -> None:
    first = homes[0]
    before = weights_of(first)
    first.start()
    now = first.ready().round
    first.until(lambda status: status.round > now)
    after = weights_of(first)
    assert before.keys() == after.keys()
    assert max(abs(after[peer] - 0.5) for peer in after) > 1e-6
    assert max(abs(before[peer] - 0.5) for peer in before) > 1e-6


def one_is_told_that_the_other_compares_nothing(homes: Sequence[Home]) -> None:
    assert "compares no gradients" in homes[0].paths.log.read_text()
    assert '"middle-not-chosen"' in homes[1].run("peers", "--json").stdout


def the_newcomer_assembled_once(homes: Sequence[Home]) -> None:
    newcomer = homes[-1]
    first, *others = newcomer.rounds()
    assert (first.round, [record.round for record in others]) == (0, [*range(1, len(others) + 1)])
    assert {peer for peer, weight in first.row.items() if weight} <= {home.ready().peer_id for home in homes[:-1]}
    assert newcomer.ready().assembly.startswith("assembled from ")
    assert "assembled from" in newcomer.run("rounds", "--last", "10000").stdout
    assert newcomer.stop() == 0
    newcomer.start()
    newcomer.until(lambda status: status.round > others[-1].round + 1)
    assert sum(record.round == 0 for record in newcomer.rounds()) == 1


def alone_of(home: Home, number: int) -> dict[str, Tensor]:
    """One of a layer's adapters, as exported by its number."""
    into = home.folder.with_name(f"{home.folder.name}-expert-{number}")
    home.run("export", str(into), "--which", "own", "--expert", str(number))
    return load_file(into / "adapter_model.safetensors")


def names_in(home: Home, blob: str) -> set[str]:
    return set(load_file(next(home.paths.blobs.rglob(blob))))


def what_is_its_own_stays(*numbers: int) -> Callable[[Sequence[Home]], None]:
    """Several adapters in a layer, so many at each peer: all that was told is plain adapters of one shape.

    Each of them has learnt (or, of others' adapters, heard) something, which is what `export --expert` writes, and a
    checkpoint keeps.
    """

    def check(homes: Sequence[Home]) -> None:
        told = set[tuple[str, ...]]()
        for home, experts in zip(homes, numbers, strict=True):
            assert home.run("generate", "rain", "--max-tokens", "4").returncode == 0
            assert "there is no expert" in home.run("export", str(home.folder / "x"), "--expert", str(experts)).stderr
            alone = [alone_of(home, number) for number in range(experts)]
            for number, adapter in enumerate(alone):
                assert any(bool(t.any()) for name, t in adapter.items() if "lora_B" in name), number
            told |= {tuple(sorted(names_in(home, update["blob"]))) for update in sent(home)}
            kept = group_of(home, "own")
            assert {expert_of(name) for name in kept} - {None} == set(range(experts))
        (names,) = told
        assert {expert_of(name) for name in names} == {0}

    return check


def sent(home: Home) -> list[dict[str, Any]]:
    """Own updates that are on the shelf still."""
    found: list[dict[str, Any]] = home.json("sent")["data"]["updates"]
    return [update for update in found if any(home.paths.blobs.rglob(update["blob"]))]


def group_of(home: Home, group: str) -> dict[str, Tensor]:
    """Of its checkpoint. The daemon is stopped for it."""
    assert home.stop() == 0
    kept = home.checkpoint()
    assert kept is not None
    return load_groups(next(home.paths.blobs.rglob(kept.blob)), "learner")[1][group]


def steps_are_told_and_taken(homes: Sequence[Home]) -> None:
    """A mezo peer that merges no more tells a key frame, then steps; who trains by gradients takes these in."""
    mezo, adamw = homes
    assert mezo.stop() == 0
    mezo.change(warmup_rounds=10_000)
    began = mezo.start().ready()
    mezo.until(lambda status: status.round > began.round + 3)
    adamw.until(lambda _: steps_taken(adamw, began.peer_id))
    sizes = {update["blob"]: update["size"] for update in mezo.json("sent", "--last", "1000")["data"]["updates"]}
    for update in steps_taken(adamw, began.peer_id):
        assert update.codec == "replay"
        assert sizes[update.digest] < sizes[str(update.base)] / 4


def steps_taken(home: Home, peer: str) -> set[Update]:
    """Updates of that peer that were admitted as differences to a key frame, as far back as the recorder has it."""
    with home.client() as client:
        record = decoded(client.debug("record").record)
    turns = replayed(record, check=False)
    admitted = {known.admitted for turn in turns if (known := turn.node.neighbours.get(PeerId(peer)))}
    return {update for update in admitted if update is not None and update.base is not None}


def differences_are_told_and_heard(homes: Sequence[Home]) -> None:
    """To a key frame of one's own, which a restart does not lose; nobody refuses one."""
    assert [home.stop() for home in homes] == [0] * len(homes)
    for home in homes:
        store = SqliteStore(home.paths.database, epoch=1)
        try:
            told, refused, kept = store.publications(), store.refusals(), store.announcement()
        finally:
            store.close()
        assert min(one.size for one in told) < 0.8 * max(one.size for one in told)
        said = own_announcement(opened(kept)) if kept is not None else None
        assert said is not None
        assert said.key_frame[0] in {one.blob for one in told}
        assert not {"base", "schema", "malformed", "codec"} & {reason for by in refused.values() for reason in by}


COBO = {"trust": "cobo", "trust_options": {"pair": 1.0, "gamma": 5.0, "rho": 0.5}}
ROWS = (
    Row("cobo", COBO, ({}, {}, {}), weights_have_moved_and_stay),
    Row("cobo-and-another", {}, (COBO, {"trust": "validation"}), one_is_told_that_the_other_compares_nothing),
    Row("per-pcs", {}, ({"gate_steps": 2}, {"gate_steps": 2}, {"assemble": True}), the_newcomer_assembled_once),
    Row("default"),
    Row("mixture", {"serve": "mixture"}, ({}, {}, {}), a_mixture_is_measured),
    Row("levels", {"codec": "levels", "lr": 2e-4}, check=differences_are_told_and_heard),
    Row("top-k", {"codec": "top-k", "lr": 2e-4}, check=differences_are_told_and_heard),
    Row("fedsa", {"sharing": "a"}),
    Row("ffa", {"sharing": "b"}),
    Row("core-svd", {"merge": "core-svd"}),
    Row("first-order", {"trust": "first-order"}),
    Row("three-ranks", {"rank": 8}, ({"own_rank": 2}, {"own_rank": 4}, {})),
    Row("flexlora", {"rank": 8, "merge": "core-svd"}, ({"own_rank": 2}, {})),
    Row("fslora", {"rank": 8, "sharing": "sketch"}, ({"own_rank": 2}, {"own_rank": 4}, {})),
    Row("rolora", {"sharing": "alternate"}),
    Row("comigs", {"sharing": "generalist"}, ({"specialists": 1}, {"specialists": 2}), what_is_its_own_stays(2, 3)),
    Row("fedalt", {"sharing": "individual"}, check=what_is_its_own_stays(2, 2)),
    Row("pf2lora", {"sharing": "two-level"}, check=what_is_its_own_stays(2, 2)),
    Row("mezo", {}, ({"trainer": "mezo", "codec": "replay"}, {}), steps_are_told_and_taken),
    Row("one4all", {"trust": "uniform"}, ({"profile": "Ada"}, {"profile": "Bob"})),
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_daemons_with_this_option_learn_from_one_another_and_survive_a_restart(row: Row, town: Town) -> None:
    homes: list[Home] = []
    try:
        for place, own in enumerate(row.each):
            known = {"peer": tuple(homes[0].ready().addresses)} if homes else {}
            name = f"{row.name}-{place}"
            homes.append(town.home(name, "water", seed=place, group=row.name, **row.all, **own, **known).start())
        for home in homes:
            home.until(lambda status: status.round > ROUNDS and any(n.trust > 0 for n in status.neighbours))
        first = homes[0]
        done = len(first.rounds())
        assert first.stop() == 0
        first.start()
        first.until(lambda status: status.round > done + 1)
        assert [r.round for r in first.rounds()] == [*range(1, len(first.rounds()) + 1)]
        row.check(homes)
    finally:
        for home in homes:
            home.end()
