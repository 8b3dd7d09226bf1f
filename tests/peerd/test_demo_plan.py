"""What the demo decides before anything starts, and what it computes from what came out."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from p2pfinetune.data.documents import Document, read_documents
from p2pfinetune.data.near_duplicates import MOST_SHARED, sequences
from p2pfinetune.names import PeerId
from p2pfinetune.scoring.difference import Difference
from p2pfinetune.scoring.perplexity import DIVERGED, MAX_PERPLEXITY
from peerd.demo import deal
from peerd.demo.deal import deal_installed, deal_own, own_folders
from peerd.demo.plan import TEST_TOKENS, DemoOptions, Member, config_of, kinds_of, names_of, shares_of
from peerd.demo.processes import DemoProcess
from peerd.demo.report import perplexity_table
from peerd.demo.result import (
    Change,
    DemoPeer,
    DemoPerplexity,
    DemoResult,
    expected_by_chance,
    same_kind_share,
    verdict,
)
from peerd.demo.watch import View, look_at_all
from peerd.errors import PeerdError, UsageError


def member(name: str, domain: str) -> Member:
    return Member(name=name, domain=domain, text=Path("t"), home=Path("h"), peer_id=PeerId(f"id-{name}"))


UNSEEN = Change(mean=0.004, low=-0.02, high=0.03, is_seen=False)
LOWER = Change(mean=-0.08, low=-0.1, high=-0.06, is_seen=True)
HIGHER = Change(mean=0.05, low=0.03, high=0.07, is_seen=True)


def peer(name: str, domain: str, trust: dict[str, float], change: Change = LOWER, tokens: int = 20_500) -> DemoPeer:
    return DemoPeer(
        name=name,
        peer_id=PeerId(f"id-{name}"),
        domain=domain,
        test_tokens=tokens,
        test_texts=60,
        perplexity=DemoPerplexity(base=20.0, local=10.0, served=10.0 * (1 + change.mean)),
        served="personal",
        against_alone=change,
        trust={PeerId(f"id-{other}"): weight for other, weight in trust.items()},
        rounds=3,
        accepted=2,
        bytes_in=1,
        bytes_out=1,
        refused={},
    )


def result(peers: list[DemoPeer], mean: Change) -> DemoResult:
    return DemoResult(
        peers=peers,
        seconds=1.0,
        report="r",
        seed=0,
        trust_scheme="validation",
        same_kind_share=None,
        against_alone=mean,
        worst_tenth=max(peer.against_alone.mean for peer in peers),
    )


def table_of(result: DemoResult) -> str:
    console = Console(width=120, record=True)
    console.print(perplexity_table(result))
    return console.export_text()


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

    assert own_folders(tmp_path) == [tmp_path / "a", tmp_path / "b"]


def texts_of(kind: str, count: int) -> list[Document]:
    """Documents of 60 words, 6 a source; every tenth has a near copy under another source."""
    found = []
    for i in range(count):
        words = [
            f"{kind}{random.Random(f'{kind}{i // 10 * 10 if i % 10 == 1 else i} {w}').randrange(10**6)}"
            for w in range(60)
        ]
        found.append(Document.of(" ".join(words[:-1] if i % 10 == 1 else words), f"{kind}-{i // 6}"))
    return found


def sequences_of(texts: Iterable[str]) -> list[set[int]]:
    return [set(sequences(text).tolist()) for text in texts]


def assert_apart(dealt: list[deal.DealtText]) -> None:
    """No text that anybody is measured on has a near copy in what anybody reads, or in what another is measured on."""
    read = [d.text for share in dealt for d in read_documents([share.folder])[0]]
    for share in dealt:
        elsewhere = set[int]().union(
            *sequences_of(read), *sequences_of(d.text for other in dealt if other is not share for d in other.test)
        )
        for found in sequences_of(d.text for d in share.test):
            assert len(found & elsewhere) <= MOST_SHARED * len(found)


def test_what_a_peer_is_measured_on_lies_in_no_peers_folder_and_has_no_near_copy_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deal, "short_documents", lambda kind: texts_of(kind, 100))
    monkeypatch.setattr(deal, "SHARE_BYTES", 4000)
    monkeypatch.setattr(deal, "TEST_BYTES", {"prose": 8000, "python": 8000})
    dealt = deal_installed(4, tmp_path, seed=3)

    assert [share.name for share in dealt] == ["prose-1", "prose-2", "python-1", "python-2"]
    assert all(sum(len(d.text) for d in share.test) >= 8000 for share in dealt)
    assert_apart(dealt)


def test_of_ones_own_folders_a_part_is_held_out_and_the_folders_stay_as_they_are(tmp_path: Path) -> None:
    for kind in ("anna", "ben"):
        (tmp_path / "own" / kind).mkdir(parents=True)
        for i, document in enumerate(texts_of(kind, 40)):
            (tmp_path / "own" / kind / f"{i}.txt").write_text(document.text)
    before = sorted(path for path in (tmp_path / "own").rglob("*"))
    dealt, copies = deal_own(tmp_path / "own", tmp_path / "text", seed=3)

    assert sorted(path for path in (tmp_path / "own").rglob("*")) == before
    assert copies == 8
    for share in dealt:
        held, given = len(share.test), len(read_documents([share.folder])[0])
        assert held + given == 36  # of 40, four were near copies
        assert 9 <= held <= 0.3 * 36
    assert_apart(dealt)


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


def test_the_headline_is_the_mean_with_its_interval() -> None:
    headline = verdict(result([peer("a", "x", {"a": 1.0}), peer("b", "x", {"b": 1.0})], LOWER))[0]

    assert headline == (
        "Perplexity of what peers are served against training alone, mean of 2 peers: "
        "8.0 % lower (95 % interval: 10.0 % to 6.0 % lower)."
    )


def test_a_loss_is_said_in_words_and_not_hidden() -> None:
    sentences = verdict(result([peer("a", "x", {"a": 1.0}, HIGHER), peer("b", "x", {"b": 1.0})], HIGHER))

    assert "5.0 % HIGHER (95 % interval: 3.0 % to 7.0 % higher)" in sentences[0]
    assert sentences[1] == "Peer by peer: lower for 1, HIGHER for 1 (a), no difference that can be seen for none."
    assert sentences[2].startswith("Worst off is a: 5.0 % HIGHER")


def test_of_a_difference_that_cannot_be_seen_no_figure_is_claimed() -> None:
    shown = result([peer("a", "x", {"a": 1.0}, UNSEEN)], UNSEEN)

    assert verdict(shown)[0].endswith("no difference that can be seen (95 % interval: 2.0 % lower to 3.0 % higher).")
    assert verdict(shown)[1].endswith("no difference that can be seen for 1 (a).")
    assert "not seen" in table_of(shown)
    assert "+0.4%" not in table_of(shown)


def test_who_is_served_another_model_than_the_personal_one_is_named() -> None:
    other = msgspec.structs.replace(peer("b", "x", {"b": 1.0}, UNSEEN), served="local")

    same = msgspec.structs.replace(other, against_alone=Change(mean=0.0, low=0.0, high=0.0, is_seen=False))
    sentences = verdict(result([peer("a", "x", {"a": 1.0}), other], LOWER))

    assert "the same" in table_of(result([same], LOWER))
    assert "no difference, since what is served is what trained alone" in verdict(result([same], LOWER))[2]
    assert sentences[-1].endswith("behind the twin on guard: b (the one that trained alone).")


def test_a_peer_with_too_little_text_to_measure_on_is_named_with_its_tokens() -> None:
    nothing = Change.of(Difference(-0.3, 900, {"only": 0.0}))
    shown = result([peer("a", "x", {"a": 1.0}, nothing, tokens=900), peer("b", "x", {"b": 1.0})], LOWER)

    assert (nothing.low, nothing.high, nothing.is_seen) == (None, None, False)
    assert f"fewer than {TEST_TOKENS:,} tokens" in verdict(shown)[-1]
    assert verdict(shown)[-1].endswith("here: a 900.")
    assert msgspec.json.decode(msgspec.json.encode(shown), type=DemoResult) == shown


def test_a_diverged_peer_is_told_in_a_word_and_keeps_nobody_from_the_report() -> None:
    lost = Change.of(Difference(45.0, 20_000, {"a": 1.0, "b": -1.0}))
    worst = msgspec.structs.replace(
        peer("a", "x", {"a": 1.0}, lost), perplexity=DemoPerplexity(base=20.0, local=10.0, served=MAX_PERPLEXITY)
    )
    shown = result([worst, peer("b", "x", {"b": 1.0})], lost)

    assert table_of(shown).count(DIVERGED) == 1
    assert "over 10 times HIGHER" in verdict(shown)[0]
    assert msgspec.json.decode(msgspec.json.encode(shown), type=DemoResult) == shown


def test_a_daemon_that_dies_ends_the_demo_with_its_last_words(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("peerd start: no text\n")

    async def scenario() -> None:
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", "raise SystemExit(2)")
        await process.wait()
        views = [View(member=member(name, "prose"), child=DemoProcess(name, process, log)) for name in ("a", "b")]
        await look_at_all(views, 3, 0.0, None)

    with pytest.raises(PeerdError, match=r"(?s)a stopped with exit code 2.*no text"):
        asyncio.run(scenario())
