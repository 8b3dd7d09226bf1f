"""Where a node stands in its round, as a closed union of values.

                                 why_rest: no reason
    Starting --WorkerStarted--> begin ----------> Training --Trained--> Publishing   (Collecting, if I spoke too often)
       ^                        ^   |                ^                      |
       | WorkerDied, from all   |   | a reason       | TextChanged          | Published, PublishFailed,
       | phases but Stopping    |   v                |                      | PublishWithheld
                                |  Resting ----------+                      v
                                |   |                                   Collecting   (not in the warm-up rounds)
            Collaborated,       |   | fresh updates, and nobody             |
            CollaborationFailed |   | awaited or `collect_seconds` over     | nobody awaited, or the deadline
                                |   v                                       |
                                +- Merging <--------------------------------+

    Starting --WorkerStarted--> Gathering --somebody's update, or the deadline--> Assembling    (of a newcomer, once)
                                    |                                                 |
                                    | nobody's                                        | Assembled, AssemblyFailed
                                    +------------------> begin <----------------------+

    StopAsked leads from every phase to Stopping, for good.

Each phase carries what only it needs, so that a deadline cannot outlive the wait that it bounds, and a `match` over
`AnyPhase` is checked to be complete. Three phases wait for other peers, Collecting, Resting and Gathering; each wait
has an end in time, so no peer can stop a round by keeping silent. The others wait for the own worker, and `WorkerDied`
ends those.

A newcomer has two phases before its first round, once in the life of a home: it gathers what neighbours have, until
nobody is to come or for `assemble_seconds`, and puts a first adapter together of it. Nothing of both is on disk before
the second has ended, so whatever interrupts them, they are begun anew.

A worker that starts says how far its checkpoint is: a round whose training is in it goes on with Publishing.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from p2pfinetune.names import Digest, PeerId, Round


class Phase(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """One station of a round. Rounds count from 1; times are monotonic seconds of `Event.at`."""


class Starting(Phase, frozen=True, kw_only=True):
    """The worker is not there yet, or not any more; `reason` says why it died."""

    reason: str = ""


class Gathering(Phase, frozen=True, kw_only=True):
    """A newcomer waits for what neighbours have, never beyond `deadline`; nothing has been trained yet."""

    round: Round
    """The one that begins afterwards."""
    deadline: float
    held: int = 0
    """Updates that could be used at `since`."""
    since: float
    """When their number changed last: who comes soon after the first is waited for."""


class Assembling(Phase, frozen=True, kw_only=True):
    """Gates are asked for, and the worker puts a first adapter together; the blobs of `digests` are in use."""

    round: Round
    digests: tuple[Digest, ...]


class Training(Phase, frozen=True, kw_only=True):
    """The worker trains. `round` is always `Node.round`: a result of another round is of a worker before."""

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
    """The worker scores and merges; the blobs of `digests` are in use, so `state.needed` keeps them on disk.

    No digests: a round without neighbours, which is still measured and recorded.
    """

    round: Round
    digests: tuple[Digest, ...]
    products: Mapping[PeerId, float] = {}
    """Agreements that go into it; what comes meanwhile is for the next one."""
    rests: bool = False
    """It began in the resting state, so that going back to rest is no news for people."""


class Resting(Phase, frozen=True, kw_only=True):
    """No training: everything goes on but that. `round` is the next one's number."""

    round: Round
    reason: str
    fresh_since: float | None = None
    """When the first update came that no merge has used yet; the merge follows `collect_seconds` later at most."""


class Stopping(Phase, frozen=True, kw_only=True):
    """The end; nothing is answered any more."""

    reason: str


AnyPhase = Starting | Gathering | Assembling | Training | Publishing | Collecting | Merging | Resting | Stopping
