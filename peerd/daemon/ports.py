"""What a daemon meets beyond itself: network, worker, the clock on the wall, signals. Tests put fakes there."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from p2pfinetune.names import Digest
from peerd.config import Config
from peerd.net.transport import Transport
from peerd.wire.addresses import addresses_of
from peerd.wire.keys import PeerKey, load_group_key
from peerd.wire.shelf import BlobShelf
from peerd.worker.process import child_command

KIB: Final = 1024


def import_network() -> object:
    """The back end takes a second to import, which a thread can spend while the worker loads."""
    from peerd.net.libp2p.transport import Libp2pTransport

    return Libp2pTransport


def libp2p(key: PeerKey, network: Digest, shelf: BlobShelf, config: Config) -> Transport:
    from peerd.net.libp2p.transport import Libp2pTransport

    psk = load_group_key(Path(config.group_key)) if config.group_key else None
    return Libp2pTransport(
        key,
        network,
        shelf,
        listen=config.listen,
        psk=psk,
        lan=config.lan,
        given=addresses_of(config.peer),
        max_upload=config.max_upload * KIB,
        max_download=config.max_download * KIB,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """What the daemon meets beyond itself; tests put fakes in its place."""

    transport: Callable[[PeerKey, Digest, BlobShelf, Config], Transport] = libp2p
    prepare: Callable[[], object] = import_network
    """Run in a thread at the start."""
    worker: Callable[[], list[str]] = child_command
    """The command line of the worker."""
    unix: Callable[[], float] = time.time
    """The clock on the wall. It may jump: it names times for people and epochs, and measures nothing."""
    signals: bool = True
    """Whether to listen to them."""
