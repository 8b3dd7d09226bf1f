"""Who can reach this machine, and what others type to join it."""

import pytest

from peerd.config import Config
from peerd.daemon.reach import invitation_notes, invitations, joining, unannounced
from peerd.wire.addresses import Address, for_others, is_public, parse_address

ADA = "12D3KooWK99VoVxNE7XzyBwXEzW7xhK7Gpv85r9F3V3fyKSUKPH5"
PRIVATE, PUBLIC, LOOPBACK = (f"/ip4/{ip}/tcp/4001/p2p/{ADA}" for ip in ("192.168.1.5", "1.1.1.1", "127.0.0.1"))
NODE = parse_address(f"/dns4/meet.example.org/tcp/4001/p2p/{ADA}")


def test_an_invitation_names_everything_that_has_to_be_the_same_and_no_path_of_this_machine():
    config = Config(
        group="my writers",
        group_key="/far/ada/group.key",
        model="/far/ada/gpt",
        rank=4,
        alpha=8,
        targets=("q", "v"),
        sharing="a",
        own_rank=2,
    )

    (line,) = invitations(config, [PRIVATE])

    assert line == (
        "peerd start --data THEIR-FOLDER --model FOLDER --group 'my writers' --group-key FILE --rank 4 --alpha 8 "
        f"--sharing a --targets q --targets v --peer {PRIVATE}"
    )
    key, model, _ = invitation_notes(config, [PRIVATE])
    assert key.startswith("FILE is a copy of /far/ada/group.key")
    assert model == "FOLDER holds the same model as /far/ada/gpt."
    assert joining(Config()) == "--model nano"
    assert joining(Config(model="/far/ada/gpt.gguf")) == "--model MODEL.gguf"


def test_only_addresses_that_others_can_use_are_offered():
    assert [line.rpartition(" ")[2] for line in invitations(Config(), [LOOPBACK, PRIVATE, PUBLIC])] == [PRIVATE, PUBLIC]
    assert invitation_notes(Config(), [PRIVATE, PUBLIC]) == []
    assert "These addresses are private" in invitation_notes(Config(), [PRIVATE, LOOPBACK])[0]


def test_where_there_is_only_loopback_it_is_said_that_nobody_elsewhere_can_come_and_what_to_type():
    assert invitations(Config(), [LOOPBACK]) == []
    said, here = invitation_notes(Config(), [LOOPBACK])
    assert said.startswith("Nobody on another machine can reach me")
    assert "--listen /ip4/0.0.0.0/tcp/4001" in said
    assert here.endswith(f"peerd start --home ANOTHER-FOLDER --data FOLDER --model nano --peer {LOOPBACK}")
    assert invitation_notes(Config(), []) == ["No address yet: nobody can join me."]


@pytest.mark.parametrize(
    "text",
    ["/ip4/127.3.2.1/tcp/1", "/ip6/::1/tcp/1", "/ip4/0.0.0.0/tcp/1", "/ip6/fe80::1/tcp/1", "/ip4/1.1.1.1/tcp/0",
     "/dns4/localhost/tcp/1", "/memory/me"],
)  # fmt: skip
def test_what_leads_nowhere_from_another_machine_is_no_address_for_others(text):
    assert for_others([text]) == []


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("/ip4/1.1.1.1/tcp/1", True),
        ("/ip6/2606:4700::1/tcp/1", True),
        ("/dns/meet.example.org/tcp/1", True),
        ("/ip4/10.0.0.1/tcp/1", False),
        ("/ip4/100.64.0.1/tcp/1", False),
        ("/ip6/fd00::1/tcp/1", False),
        ("/dns4/printer.local/tcp/1", False),
        ("/dns4/nas/tcp/1", False),
    ],
)
def test_an_address_is_public_where_it_leads_to_the_internet(text, public):
    address = parse_address(text)

    assert isinstance(address, Address)
    assert is_public(address) is public


def test_a_machine_that_registers_only_private_addresses_with_a_public_bootstrap_node_is_told_and_what_to_type():
    said = unannounced([NODE], [PRIVATE, LOOPBACK])

    assert "only private addresses to register there (/ip4/192.168.1.5/tcp/4001, /ip4/127.0.0.1/tcp/4001)" in said
    assert said.endswith("peerd stop; peerd start --announce /ip4/PUBLIC-ADDRESS/tcp/PORT")
    assert unannounced([NODE], [PUBLIC, PRIVATE]) == ""
    assert unannounced([parse_address(PRIVATE)], [PRIVATE]) == ""  # it is of the same network, as far as anybody knows
    assert unannounced([], [PRIVATE]) == ""
