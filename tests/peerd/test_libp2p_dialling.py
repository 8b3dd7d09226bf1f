"""Dialling what strangers announced, without a network."""

from __future__ import annotations

import socket

import pytest
import trio

from peerd.errors import TransportError
from peerd.net.libp2p.host import check_free, dial, dialled
from peerd.wire.addresses import Address, dialable
from tests.fuzz.stream import OTHER_SIDE, Script, ScriptedHost


@pytest.mark.parametrize("host", ["xn--c", "a.8n--c", "xn--" + "a" * 59])
def test_a_host_name_that_the_library_cannot_read_does_not_keep_the_next_address_from_being_dialled(host: str) -> None:
    addresses = dialable([f"/dns/{host}/tcp/1", "/ip4/192.0.2.1/tcp/2"], OTHER_SIDE)
    assert len(addresses) == 2

    assert dialled(addresses[0]) is None
    assert trio.run(dial, ScriptedHost(Script.of(b"")), OTHER_SIDE, addresses) == addresses[1]


def test_an_address_is_dialled_as_it_is_written() -> None:
    assert str(dialled(Address("ip4", "192.0.2.1", 2))) == "/ip4/192.0.2.1/tcp/2"


def test_an_address_that_cannot_be_listened_on_is_named_with_what_to_type_instead() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(TransportError, match=f"/ip4/127.0.0.1/tcp/{port}: Address already in use") as taken:
            check_free(Address("ip4", "127.0.0.1", port))
    with pytest.raises(
        TransportError, match=r"/ip4/192\.0\.2\.1/tcp/4001: Cannot assign requested address"
    ) as elsewhere:
        check_free(Address("ip4", "192.0.2.1", 4001))

    assert "/ip4/127.0.0.1/tcp/0 for any free one" in taken.value.hint
    assert elsewhere.value.hint.endswith("--listen /ip4/0.0.0.0/tcp/4001")
