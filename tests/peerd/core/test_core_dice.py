"""Lots: spread evenly, the same under the same key, and nothing that somebody without the key can work out."""

from __future__ import annotations

from typing import Any

from p2pfinetune.names import PeerId
from peerd.core import events as on
from peerd.core.dice import key_of, roll

KEY = key_of("of this node")


def test_lots_are_in_the_unit_interval_and_fall_alike_in_every_run() -> None:
    lots = [roll(KEY, "peer", f"peer-{number}") for number in range(2000)]

    assert all(0.0 <= lot < 1.0 for lot in lots)
    assert lots == [roll(KEY, "peer", f"peer-{number}") for number in range(2000)]
    assert roll(bytes(32), "a", 1) == 0.8779479733100766  # a restart draws no new partial view


def test_lots_of_similar_words_are_spread_evenly() -> None:
    tenths = [0] * 10
    for number in range(5000):
        tenths[int(10 * roll(KEY, "peer", number))] += 1

    assert max(tenths) < 600
    assert min(tenths) > 400


def test_what_wins_under_one_key_wins_no_oftener_under_another() -> None:
    """Ids cost nothing: the best hundred of ten thousand by a key that is known are anybody under mine."""
    known, mine = key_of("guessed"), key_of("mine")
    ids = sorted((f"sybil-{number}" for number in range(10_000)), key=lambda peer: roll(known, "peer", peer))[:100]

    assert max(roll(known, "peer", peer) for peer in ids) < 0.02
    assert 0.35 < sum(roll(mine, "peer", peer) for peer in ids) / 100 < 0.65


def test_the_words_of_one_lot_are_told_apart() -> None:
    assert (
        len({roll(KEY, *words) for words in [("a", "b"), ("ab",), ("a", "b", ""), ("b", "a"), ("a", 1), ("a1",)]}) == 6
    )


def test_no_pause_and_no_lot_can_be_worked_out_from_what_a_node_announces(playbook: Any) -> None:
    def pauses(secret: str) -> tuple[float, ...]:
        play = playbook(secret=secret)
        play.worker()
        found = []
        for name in ("peer-one", "peer-two"):
            play.tell(on.PeerFound, peer=PeerId(name), addresses=(f"/sim/{name}",), how="peers")
            play.tell(on.DialFailed, peer=PeerId(name), reason="unreachable")
            known = play.node.neighbours[PeerId(name)]
            found += [known.lot, known.dial_not_before - play.at]
        return tuple(found)

    assert pauses("one") == pauses("one")
    assert not set(pauses("one")) & set(pauses("another"))


def test_the_secret_itself_does_not_stay_in_the_state(playbook: Any) -> None:
    node = playbook(secret="known to me alone").node

    assert len(node.lots) == 32
    assert "known to me alone" not in repr(node)
