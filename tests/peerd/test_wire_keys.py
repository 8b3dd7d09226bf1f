from __future__ import annotations

import os
import random
import stat

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from bootstrap.registry import State, register
from p2pfinetune.names import Refusal
from peerd.errors import StoreError, UsageError
from peerd.wire import keys
from peerd.wire.addresses import dialable, parse_address
from peerd.wire.keys import PeerKey, load_group_key, public_key_of, sealed, verify
from peerd.wire.messages import Register

SEED = bytes(range(32))
SIGNATURE = (
    "e9dba3fd2f197a013b772c94125e0d63bc5f498cb05ae2eccfecdbc8aeb6a364"
    "821b0489dd121c87504ca1285b87bee21c6630799c5b56dec21fe50515ea510c"
)
PEER = "12D3KooWA4Xop1JaT3MHxwYMkCepYsv4iPVopMXwCz5iHYdBfeSB"


def test_a_seed_gives_this_very_peer_id_and_signature():
    key = PeerKey(SEED)

    assert key.peer_id == PEER
    assert key.sign(b"peerd").hex() == SIGNATURE
    assert public_key_of(PEER).hex() == "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8"  # RFC 8032


@pytest.mark.parametrize("seed", [bytes(32), SEED, b"\xff" * 32], ids=["zeros", "count", "ones"])
def test_the_peer_id_is_that_of_libp2p(seed):
    from libp2p.crypto.ed25519 import create_new_key_pair
    from libp2p.peer.id import ID

    assert str(ID.from_pubkey(create_new_key_pair(seed).public_key)) == PeerKey(seed).peer_id


def test_a_key_is_made_once_for_its_owner_alone(tmp_path):
    path = tmp_path / "home" / "identity"

    made, again = PeerKey.load_or_create(path), PeerKey.load_or_create(path)

    assert made.seed == again.seed
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["identity"]


def test_two_that_create_the_key_at_once_agree(tmp_path):
    from peerd.wire import keys

    path = tmp_path / "identity"
    keys._create(path, bytes(32))
    keys._create(path, SEED)

    assert PeerKey.load_or_create(path).seed == bytes(32)


@pytest.mark.parametrize(
    "content",
    [b"", SEED[:31], SEED + b"\n", bytes(36), sealed(SEED)[:35], sealed(SEED) + b"\n", SEED[::-1] + sealed(SEED)[32:]],
)
def test_a_damaged_key_is_refused_with_advice_and_left_alone(tmp_path, content):
    path = tmp_path / "identity"
    path.write_bytes(content)
    path.chmod(0o600)

    with pytest.raises(UsageError, match="damaged") as raised:
        PeerKey.load_or_create(path)

    assert "put back a copy" in raised.value.hint
    assert raised.value.exit_code == 2
    assert path.read_bytes() == content


def test_every_flipped_bit_of_the_key_is_noticed(tmp_path):
    path = tmp_path / "identity"
    PeerKey.load_or_create(path)
    whole = path.read_bytes()
    for bit in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)

        with pytest.raises(UsageError, match="damaged"):
            PeerKey.load_or_create(path)


def test_a_bare_seed_is_a_key_too(tmp_path):
    path = tmp_path / "identity"
    path.write_bytes(SEED)
    path.chmod(0o600)

    assert PeerKey.load_or_create(path).seed == SEED


def test_a_key_that_is_gone_from_a_used_home_is_not_replaced(tmp_path):
    with pytest.raises(UsageError, match="is gone") as raised:
        PeerKey.load_or_create(tmp_path / "identity", used=True)

    assert "put back a copy" in raised.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_key_that_others_can_read_is_refused_with_advice(tmp_path):
    path = tmp_path / "identity"
    path.write_bytes(SEED)
    path.chmod(0o640)

    with pytest.raises(StoreError, match="0640") as raised:
        PeerKey.load_or_create(path)

    assert raised.value.hint == f"make it yours alone: chmod 600 {path}"


def test_a_folder_in_the_way_is_a_store_error(tmp_path):
    (tmp_path / "identity").mkdir(mode=0o700)

    with pytest.raises(StoreError, match="identity"):
        PeerKey.load_or_create(tmp_path / "identity")


def test_the_repr_of_a_key_shows_no_secret():
    assert repr(PeerKey(SEED)) == f"PeerKey({PEER})"
    assert SEED.hex() not in repr(vars(PeerKey)) + repr(PeerKey(SEED))


@settings(deadline=None)
@given(st.binary(max_size=64), st.integers(0, 511))
def test_a_signature_holds_for_these_bytes_and_this_peer_alone(data, bit):
    key, other = PeerKey(SEED), PeerKey(bytes(32))
    signature = key.sign(data)
    flipped = bytearray(signature)
    flipped[bit // 8] ^= 1 << bit % 8

    assert verify(key.peer_id, signature, data)
    assert not verify(key.peer_id, signature, data + b"\0")
    assert not verify(key.peer_id, bytes(flipped), data)
    assert not verify(other.peer_id, signature, data)


@settings(deadline=None)
@given(st.text(max_size=80), st.binary(max_size=80))
def test_verifying_never_raises(peer, signature):
    assert not verify(peer, signature, b"")


@pytest.mark.parametrize(
    "peer", ["", "1" * 52, PEER[:-1], PEER + "1", "1" + PEER, PEER.lower(), "Qm" + "a" * 44, "0" * 52, "ä" * 10]
)
def test_a_text_that_is_no_ed25519_peer_id_has_no_key(peer):
    assert public_key_of(peer) is None


def test_a_group_key_is_64_hexadecimal_digits(tmp_path):
    path = tmp_path / "group.key"
    path.touch(mode=0o600)
    path.write_text("AB" * 32 + "\n")

    assert load_group_key(path) == "ab" * 32


@pytest.mark.parametrize("content", ["", "ab" * 31, "xy" * 32, "ä" * 64])
def test_another_group_key_is_refused_without_showing_it(tmp_path, content):
    path = tmp_path / "group.key"
    path.touch(mode=0o600)
    path.write_text(content)

    with pytest.raises(UsageError) as raised:
        load_group_key(path)

    assert "openssl rand -hex 32" in raised.value.hint
    assert not content or content not in str(raised.value)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o602, 0o610])
def test_a_group_key_that_others_can_read_is_refused_with_the_command_that_mends_it(tmp_path, mode):
    path = tmp_path / "group.key"
    path.write_text("ab" * 32)
    path.chmod(mode)

    with pytest.raises(UsageError, match=f"can be read by others .mode {mode:04o}") as raised:
        load_group_key(path)
    assert raised.value.hint == f"make it yours alone: chmod 600 {path}"
    path.chmod(0o600)
    assert load_group_key(path) == "ab" * 32


def test_a_group_key_of_another_user_is_for_a_group_at_most(tmp_path, monkeypatch):
    path = tmp_path / "group.key"
    path.write_text("ab" * 32)
    monkeypatch.setattr(os, "getuid", lambda: path.stat().st_uid + 1)
    path.chmod(0o640)

    assert load_group_key(path) == "ab" * 32
    path.chmod(0o644)
    with pytest.raises(UsageError, match="can be read by others") as raised:
        load_group_key(path)
    assert "install -m 600" in raised.value.hint


FIELD = 2**255 - 19
D = -121665 * pow(121666, -1, FIELD) % FIELD  # of the curve, RFC 8032


def points_of(key: bytes) -> list[tuple[int, int]]:
    """Those that an encoding stands for, read as loosely as it can be."""
    number = int.from_bytes(key, "little")
    y, sign = (number & ~(1 << 255)) % FIELD, number >> 255
    square = (y * y - 1) * pow(D * y * y + 1, -1, FIELD) % FIELD
    x = pow(square, (FIELD + 3) // 8, FIELD)
    if x * x % FIELD != square:
        x = x * pow(2, (FIELD - 1) // 4, FIELD) % FIELD
    return [(FIELD - x if x & 1 != sign else x, y)] if x * x % FIELD == square else []


def doubled(point: tuple[int, int]) -> tuple[int, int]:
    x, y = point
    product = D * x * x * y * y
    return (
        2 * x * y * pow(1 + product, -1, FIELD) % FIELD,
        (y * y + x * x) * pow(1 - product, -1, FIELD) % FIELD,
    )


def encoded(y: int, sign: int = 0) -> bytes:
    return (y | sign << 255).to_bytes(32, "little")


UNSOUND = [encoded(y, sign) for y in sorted(keys._SMALL_ORDER) for sign in (0, 1)]
TWICE_WRITTEN = [encoded(FIELD + above, sign) for above in range(19) for sign in (0, 1)]


@pytest.mark.parametrize("key", UNSOUND, ids=lambda key: key[:3].hex())
def test_a_key_of_small_order_is_no_key_though_anything_can_be_signed_under_it(key):
    for point in points_of(key):
        assert doubled(doubled(doubled(point)))[0] == 0  # eight times it is the neutral element, or of order two
        assert doubled(doubled(doubled(doubled(point)))) == (0, 1)

    assert public_key_of(keys.peer_id_of(key)) is None
    assert not verify(keys.peer_id_of(key), bytes([1]) + bytes(63), b"whatever")


def test_a_signature_of_anything_under_the_neutral_element_would_be_valid_without_that():
    neutral = encoded(1)

    Ed25519PublicKey.from_public_bytes(neutral).verify(neutral + bytes(32), b"whatever")  # raises where it is not


@pytest.mark.parametrize("key", TWICE_WRITTEN, ids=lambda key: key[:1].hex() + key[-1:].hex())
def test_a_key_that_is_written_beyond_the_field_is_no_key(key):
    assert public_key_of(keys.peer_id_of(key)) is None


def test_a_peer_under_such_a_key_has_no_address_that_could_be_dialled_or_registered():
    peer = keys.peer_id_of(encoded(0))

    assert isinstance(parse_address(f"/ip4/192.0.2.1/tcp/4001/p2p/{peer}"), Refusal)
    assert dialable(["/ip4/192.0.2.1/tcp/4001"], peer) == ()
    message = Register(network="a" * 64, addresses=("/ip4/192.0.2.1/tcp/4001",))
    state, _ = register(State(), 0.0, peer, "192.0.2.1", message, random.Random(0))
    assert [registration.addresses for registration in state.registrations.values()] == [()]  # told to nobody
