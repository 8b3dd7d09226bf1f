"""The handshake of Noise, which proves who the other end is, for identities of the one kind that the protocol knows.

Stock, it takes RSA, ECDSA and secp256k1, too: keys that no announcement can be verified with, and as many more ways to
be somebody new. An Ed25519 key of small order proves nothing, since anybody can sign under it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from libp2p.crypto.keys import KeyPair
from libp2p.crypto.x25519 import create_new_key_pair
from libp2p.security.noise.exceptions import NoiseFailure
from libp2p.security.noise.transport import Transport as Noise

from peerd.net.libp2p.guard import attempt
from peerd.wire.keys import public_key_of

REFUSED = "identities-refused"
"""How such a connection is counted."""


class IdentityRefusedError(NoiseFailure):  # type: ignore[misc]  # libp2p is untyped here
    """The other end is of another kind, or under a key that proves nothing."""


class Ed25519Noise(Noise):  # type: ignore[misc]  # libp2p is untyped here
    """Noise, and no word to a peer under another key than a sound one of Ed25519."""

    def __init__(self, pair: KeyPair, count: Callable[[str], None]) -> None:
        super().__init__(pair, noise_privkey=create_new_key_pair().private_key)
        self._count = count

    async def secure_inbound(self, *arguments: Any) -> Any:
        """As the original. Raises IdentityRefusedError."""
        return await self._known(await super().secure_inbound(*arguments))

    async def secure_outbound(self, *arguments: Any) -> Any:
        """As the original. Raises IdentityRefusedError."""
        return await self._known(await super().secure_outbound(*arguments))

    async def _known(self, session: Any) -> Any:
        peer = str(session.get_remote_peer())
        if public_key_of(peer) is None:
            self._count(REFUSED)
            await attempt(session.close)
            raise IdentityRefusedError(f"{peer[:64]} is no sound Ed25519 identity")
        return session
