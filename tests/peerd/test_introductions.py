"""What a person is told of bootstrap nodes and peers that do not answer as was thought."""

from __future__ import annotations

import logging
from typing import get_args

import pytest

from peerd.daemon.introductions import NEVER_BY_ITSELF, Introductions
from peerd.net.transport import Connected, Failed, FailureReason
from peerd.wire.addresses import given_addresses
from peerd.wire.keys import PeerKey

OLD, NEW, ADA = (PeerKey(bytes([n]) * 32).peer_id for n in range(3))
NODE, SPARE = given_addresses(
    [f"/ip4/192.0.2.9/tcp/4001/p2p/{OLD}", f"/dns4/spare.example/tcp/4001/p2p/{OLD}"], "--bootstrap"
)
PEER = given_addresses([f"/ip4/192.0.2.2/tcp/4002/p2p/{ADA}"], "--peer")[0]


def introductions() -> Introductions:
    return Introductions({"--bootstrap": (NODE, SPARE), "--peer": (PEER,)})


def test_a_node_made_anew_is_told_with_its_id_and_the_command_that_names_all_of_them():
    told = introductions()
    told.asked(NODE, Failed("other-identity", f"answers under another id: {NEW}", found=NEW))

    (sentence,) = told.mistaken(())

    assert sentence.startswith(f"The bootstrap node at /ip4/192.0.2.9/tcp/4001 answers under another id: {NEW}. ")
    assert f"Not {OLD}, which you named: ask its owner" in sentence
    assert sentence.endswith(
        f"peerd stop; peerd start --bootstrap /ip4/192.0.2.9/tcp/4001/p2p/{NEW} --bootstrap {SPARE}"
    )


def test_each_cause_has_a_sentence_of_its_own_with_what_to_do():
    causes = [reason for reason in get_args(FailureReason) if reason not in {"absent", "corrupt", "oversize", "busy"}]
    sentences = set()
    for reason in causes:
        told = introductions()
        told.asked(NODE, Failed(reason, "is so and so", found=NEW if reason == "other-identity" else None))
        sentences.update(told.lonely())

    assert len(sentences) == len(causes)


def test_only_what_does_not_pass_by_itself_is_said_in_company_and_not_of_one_that_is_connected_after_all():
    for reason in get_args(FailureReason):
        told = introductions()
        told.dialled(ADA, Failed(reason, "is so and so", address=str(PEER)))

        assert len(told.lonely()) == 1
        assert bool(told.mistaken(())) is (reason in NEVER_BY_ITSELF)
        assert told.mistaken({ADA}) == []


def test_in_what_a_peer_that_cannot_be_joined_differs_is_said_with_the_next_command():
    for kinds, words, command in (
        (
            ("group",),
            "The peer at /ip4/192.0.2.2/tcp/4002 is in another group",
            "peerd start --home ANOTHER-FOLDER --data FOLDER --group NAME",
        ),
        (("model",), "has another base model", "--model NAME"),
        (("adapter",), "adapts it otherwise", "--rank, --alpha, --sharing and --targets"),
        (("sharing",), "shares other parts of the adapter", "--sharing NAME"),
        (("version",), "another version of the protocol", "peerd --version"),
        (("no-key",), "has no group key, while this peer has one", "given with --group-key FILE"),
        (
            ("group", "model"),
            "is in another group and has another base model",
            "prints the whole line for others. Both need the same --model",
        ),
    ):
        told = introductions()
        told.dialled(ADA, Failed("other-network", "\x1b of a stranger", address=str(PEER), differs=kinds))
        (sentence,) = told.mistaken(())

        assert words in sentence
        assert command in sentence
        assert "stranger" not in sentence
        assert told.differs() == set(kinds)


def test_a_bootstrap_node_that_knows_other_networks_alone_says_in_what_the_nearest_differs(
    caplog: pytest.LogCaptureFixture,
):
    told = introductions()
    with caplog.at_level(logging.WARNING, "peerd.introductions"):
        for _ in range(3):
            told.knows_others(NODE, ("group",))

    assert len(caplog.records) == 1
    (said,) = told.others()
    assert "knows nobody else of this network, and peers of others; the nearest of those is in another group" in said
    assert "--home ANOTHER-FOLDER --data FOLDER --group NAME" in said
    told.knows_others(NODE, ())
    assert told.others() == []


def test_a_machine_is_registered_with_the_nodes_that_answered_when_they_were_asked_last():
    told = introductions()
    told.asked(NODE, None)
    told.asked(SPARE, None)
    told.asked(SPARE, Failed("timeout", "does not answer"))

    assert told.registered() == [NODE]


def test_it_is_logged_when_it_changes_and_when_it_answers_again(caplog: pytest.LogCaptureFixture):
    told = introductions()
    with caplog.at_level(logging.INFO, "peerd.introductions"):
        for failed in (
            Failed("timeout", "does not answer within 8 s"),
            Failed("timeout", "does not answer within 15 s"),
            Failed("no-such-name", "the name spare.example does not resolve here"),
            None,
            None,
        ):
            told.asked(SPARE, failed)

    assert [record.getMessage().split(". ")[0] for record in caplog.records] == [
        "The bootstrap node at /dns4/spare.example/tcp/4001 does not answer within 8 s",
        (
            "The bootstrap node at /dns4/spare.example/tcp/4001 cannot be found: "
            "the name spare.example does not resolve here"
        ),
        "The bootstrap node at /dns4/spare.example/tcp/4001 answers again",
    ]
    assert told.lonely() == []


def test_of_a_peer_only_what_happens_at_the_address_that_was_given_is_told():
    told = introductions()
    told.dialled(
        ADA, Failed("other-identity", "answers under another id", found=NEW, address=f"/ip4/127.0.0.1/tcp/1/p2p/{ADA}")
    )
    told.dialled(NEW, Failed("timeout", "does not answer", address=f"/ip4/192.0.2.8/tcp/1/p2p/{NEW}"))
    assert told.lonely() == []

    told.dialled(ADA, Failed("connection-refused", "refuses connections", address=str(PEER)))
    assert len(told.lonely()) == 1

    told.dialled(ADA, Connected(ADA, str(PEER)))
    assert told.lonely() == []


def test_what_a_stranger_says_cannot_drive_a_terminal():
    told = introductions()
    told.asked(NODE, Failed("refused", "is no peerd: it says '\x1b[2J\u202e'" + "x" * 999))

    (sentence,) = told.lonely()

    assert sentence.isprintable()
    assert len(sentence) < 600
