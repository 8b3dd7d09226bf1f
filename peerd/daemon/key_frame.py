"""The key frame that the next own update may be a difference to.

Everything about it is known from what is on disk anyway, the last announcement and the book of publications, so there
is no state that a restart could lose: the last announcement names its base, or is one itself, and the book tells how
many updates were published since.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple

from p2pfinetune.codec import difference_codecs
from p2pfinetune.names import Digest
from peerd.daemon.journal import Journal
from peerd.daemon.resume import own_announcement
from peerd.errors import StoreError

_log = logging.getLogger("peerd.key_frame")


class KeyFrameFile(NamedTuple):
    """The last key frame of this peer, on its shelf."""

    digest: Digest
    size: int
    path: Path
    publications: int
    """Since it, itself included."""


async def last_key_frame(journal: Journal, network: Digest | None, codec: str) -> KeyFrameFile | None:
    """None if there is none, if it is of another network or codec, or if it is not on the shelf any more."""
    own = own_announcement(journal.envelope)
    if own is None or (own.network, own.codec) != (network, codec) or codec not in difference_codecs():
        return None
    digest, size = own.key_frame
    publications = journal.publications_since(digest)
    if publications is None:
        return None
    try:
        return KeyFrameFile(digest, size, await journal.blob(digest), publications)
    except StoreError as error:  # the next update is one
        _log.warning("the last key frame is not there: %s", error)
        return None
