"""Where a node stands in its round, as a closed union of values."""

from __future__ import annotations

import msgspec

from p2pfinetune.names import Digest, Round


class Phase(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """One station of a round."""


class Starting(Phase, frozen=True, kw_only=True):
    """The worker is not there yet, or not any more; `reason` says why it died."""

    reason: str = ""


class Training(Phase, frozen=True, kw_only=True):
    """The worker trains."""

    round: Round
    began_at: float


class Publishing(Phase, frozen=True, kw_only=True):
    """The own update is being written and announced."""

    round: Round
    began_at: float


class Collecting(Phase, frozen=True, kw_only=True):
    """Neighbours' updates are waited for, never beyond `deadline`."""

    round: Round
    deadline: float


class Merging(Phase, frozen=True, kw_only=True):
    """The worker scores and merges; the blobs of `digests` are in use."""

    round: Round
    digests: tuple[Digest, ...]
    rests: bool = False
    """It began in the resting state."""


class Resting(Phase, frozen=True, kw_only=True):
    """No training: everything goes on but that. `round` is the next one's number."""

    round: Round
    reason: str
    fresh_since: float | None = None
    """When the first update came that no merge has used yet."""


class Stopping(Phase, frozen=True, kw_only=True):
    """The end; nothing is answered any more."""

    reason: str


AnyPhase = Starting | Training | Publishing | Collecting | Merging | Resting | Stopping
