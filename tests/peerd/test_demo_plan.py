"""What the demo decides before anything starts, and what it computes from what came out."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from p2pfinetune.names import PeerId
from peerd.demo.deal import own_folders
from peerd.demo.plan import DemoOptions, Member, config_of, kinds_of, names_of, shares_of
from peerd.demo.processes import Child
from peerd.demo.report import perplexity_table
from peerd.demo.result import (
    DemoPeer,
    DemoPerplexity,
    DemoResult,
    expected_by_chance,
    gain_over_local,
    same_kind_share,
    verdict,
)
from peerd.demo.watch import View, look_at_all
from peerd.errors import PeerdError, UsageError
from peerd.perplexity import DIVERGED, MAX_PERPLEXITY


def member(name: str, domain: str) -> Member:
    return Member(name=name, domain=domain, text=Path("t"), home=Path("h"), peer_id=PeerId(f"id-{name}"))


def peer(
    name: str, domain: str, trust: dict[str, float], personal: float = 8.0, local: float | None = 10.0
) -> DemoPeer:
    return DemoPeer(
        name=name,
        peer_id=PeerId(f"id-{name}"),
        domain=domain,
        perplexity=DemoPerplexity(base=20.0, local=local, own=9.0, personal=personal),
        trust={PeerId(f"id-{other}"): weight for other, weight in trust.items()},
        rounds=3,
        accepted=2,
        bytes_in=1,
        bytes_out=1,
        refused={},
    )


@pytest.mark.parametrize(
    ("peers", "expected"),
    [
        (2, ["prose", "prose"]),
        (4, ["prose", "prose", "python", "python"]),
        (6, ["prose", "prose", "python", "python", "cpp", "cpp"]),
        (7, ["prose", "prose", "prose", "python", "python", "cpp", "cpp"]),
    ],
)
def test_peers_are_dealt_in_pairs_of_one_kind(peers: int, expected: list[str]) -> None:
    assert kinds_of(peers) == expected


def test_every_peer_has_a_name_of_its_own() -> None:
    assert names_of(["prose", "cpp", "prose"]) == ["prose-1", "cpp-1", "prose-2"]


def test_shares_are_declared_only_where_the_oracle_asks_for_them() -> None:
    members = [member("a", "prose"), member("b", "cpp")]

    measured = config_of(members[0], members, DemoOptions(trust="validation"), "/x", "g")
    oracle = config_of(members[0], members, DemoOptions(trust="oracle"), "/x", "g")

    assert measured.shares == {}
    assert oracle.shares == shares_of(members) == {"id-a": (0.0, 1.0), "id-b": (1.0, 0.0)}


def test_the_daemons_of_the_demo_listen_on_loopback_alone() -> None:
    members = [member("a", "prose")]

    assert config_of(members[0], members, DemoOptions(), "/x", "g").listen == ("/ip4/127.0.0.1/tcp/0",)


def test_own_data_needs_one_folder_a_peer(tmp_path: Path) -> None:
    (tmp_path / "only-one").mkdir()

    with pytest.raises(UsageError, match="1 sub-folders"):
        own_folders(tmp_path)


def test_own_folders_name_the_domains(tmp_path: Path) -> None:
    for name in ("b", "a", ".git"):
        (tmp_path / name).mkdir()

    assert own_folders(tmp_path) == [("a", tmp_path / "a"), ("b", tmp_path / "b")]


def test_the_share_for_ones_own_kind_counts_only_weight_given_away() -> None:
    peers = [
        peer("a", "prose", {"a": 0.6, "b": 0.3, "c": 0.1}),
        peer("b", "prose", {"a": 0.4, "b": 0.6, "c": 0.0}),
        peer("c", "cpp", {"a": 0.0, "b": 0.0, "c": 1.0}),  # gives nothing away, so it says nothing
    ]

    assert same_kind_share(peers) == pytest.approx((0.75 + 1.0) / 2)


def test_nobody_who_gives_nothing_has_no_share() -> None:
    assert same_kind_share([peer("a", "prose", {"a": 1.0})]) is None


def test_chance_is_the_share_of_ones_kind_among_the_others() -> None:
    peers = [peer(str(i), kind, {str(i): 1.0}) for i, kind in enumerate(["a", "a", "b", "b", "c", "c"])]

    assert expected_by_chance(peers) == pytest.approx(1 / 5)


def test_the_gain_compares_with_training_alone() -> None:
    peers = [peer("a", "x", {"a": 1.0}, personal=9.0, local=10.0), peer("b", "x", {"b": 1.0}, personal=7.0, local=10.0)]

    assert gain_over_local(peers) == pytest.approx(0.2)


def test_a_loss_is_said_in_words_and_not_hidden() -> None:
    peers = [peer("a", "x", {"a": 1.0}, personal=12.0, local=10.0)]
    result = DemoResult(
        peers=peers,
        seconds=1.0,
        report="r",
        trust_scheme="validation",
        same_kind_share=None,
        gain_over_local=gain_over_local(peers),
    )

    assert verdict(result) == [
        "Mean perplexity on unseen text: 12.00 with collaboration, 10.00 trained alone: 20.0% HIGHER."
    ]


def test_without_a_twin_nothing_is_claimed() -> None:
    assert gain_over_local([peer("a", "x", {"a": 1.0}, local=None)]) is None


def test_a_diverged_peer_is_told_in_a_word_and_keeps_nobody_from_the_report() -> None:
    worst = msgspec.structs.replace(peer("a", "x", {"a": 1.0}, personal=MAX_PERPLEXITY), bytes_out=0)
    result = DemoResult(
        peers=[worst, peer("b", "x", {"b": 1.0})],
        seconds=1.0,
        report="r",
        trust_scheme="validation",
        same_kind_share=None,
        gain_over_local=None,
    )
    console = Console(width=120, record=True)
    console.print(perplexity_table(result))

    assert console.export_text().count(DIVERGED) == 1
    assert msgspec.json.decode(msgspec.json.encode(result), type=DemoResult) == result


def test_a_daemon_that_dies_ends_the_demo_with_its_last_words(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("peerd start: no text\n")

    async def scenario() -> None:
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", "raise SystemExit(2)")
        await process.wait()
        views = [View(member=member(name, "prose"), child=Child(name, process, log)) for name in ("a", "b")]
        await look_at_all(views, 3, 0.0, None)

    with pytest.raises(PeerdError, match=r"(?s)a stopped with exit code 2.*no text"):
        asyncio.run(scenario())
