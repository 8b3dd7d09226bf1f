"""The targets reach what they are for: a target that sees nothing but refusals would hold whatever the code does."""

from __future__ import annotations

from p2pfinetune.names import Refusal
from peerd.control.handlers import MAX_BODY
from peerd.net.transport import Heard
from peerd.wire.envelope import open_announcement, seal
from tests.fuzz import control, gossip, messages
from tests.fuzz.stream import Script


def test_an_honest_gossip_stream_is_heard_and_a_hostile_one_is_counted() -> None:
    envelope = seal(messages.OTHER_KEY, messages.announcement(peer=messages.OTHER_KEY.peer_id))
    honest, broken, *_ = (Script.of(seed) for seed in gossip.inbound_seeds())
    nonsense = Script(0, 0, b"", gossip.gossip() + b"\x05\xff\xff\xff\xff\xff")

    stream, heard, counts = gossip.played(honest)
    assert [event.envelope.data for event in heard if isinstance(event, Heard)] == [envelope]
    assert not counts
    assert str(stream.protocol) == gossip.MESHSUB

    assert gossip.played(broken)[2] == {"messages-oversize": 1}
    assert gossip.played(nonsense)[2] == {"streams-failed": 1, "malformed-frames": 1}


def test_an_announcement_that_is_changed_is_signed_again_and_some_of_those_open() -> None:
    from random import Random

    seed = next(messages.envelopes())
    found = [open_announcement(messages.mutate_envelope(seed, Random(number))) for number in range(300)]

    reasons = {refusal.reason for refusal in found if isinstance(refusal, Refusal)}
    assert {"malformed", "bad-envelope", "bad-message", "signature"} <= reasons
    assert any(not isinstance(one, Refusal) for one in found)


def test_a_request_that_is_longer_than_it_says_is_not_read_to_its_end() -> None:
    control.run_control(b"POST /v1/stop\nhost: peerd\ncontent-length: 2\n\n" + b"a" * (2 * MAX_BODY))
