"""The JSON documents that the API gives and `--json` prints, as types; docs/protocol.md is generated from them."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from p2pfinetune.names import Digest, PeerId, Round, Served, Which
from peerd.status import (
    SCHEMA_VERSION,
    BannedNow,
    MergesNow,
    NeighbourNow,
    PrivacyNow,
    RoundRecord,
    SentNow,
    TextNow,
)


class PeersNow(msgspec.Struct, frozen=True, kw_only=True):
    """`peerd peers`."""

    peers: list[NeighbourNow]
    banned: list[BannedNow] = []


class TrustPoint(msgspec.Struct, frozen=True, kw_only=True):
    """One weight in one round."""

    round: Round
    weight: float
    taken: bool = True
    """Whether the merge of that round was; if not, nothing of it is in my model."""


class TrustedPeer(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of my trust row, with what it rests on."""

    peer_id: PeerId
    name: str
    is_me: bool
    weight: float
    """In the row of `round`, taken or not."""
    mean_weight: float
    """Over the rounds of `history`."""
    history: list[TrustPoint]
    """Oldest first, at most the last 100 rounds."""
    update_round: Round | None
    """The peer's own round of its latest admitted update."""
    update_age_seconds: float | None
    refused: dict[str, int]
    """What I did not take from it, by reason."""
    copy_of: PeerId | None = None
    """Whose update its own was a copy of in my last merge; perhaps mine."""
    taken_weight: float = 0.0
    """In the last merge that was taken: what my model is made of. That may be of an earlier round; see `merges`."""


class TrustNow(msgspec.Struct, frozen=True, kw_only=True):
    """`peerd trust`: my last row, whether it was taken, why, and how it came about."""

    scheme: str
    measured: str
    """What the scheme measures, in one sentence."""
    round: Round | None
    accepted: bool | None
    """Whether the guard took the merge; None before the first round ended."""
    reason: str
    guard_own: float | None
    guard_personal: float | None
    row: list[TrustedPeer]
    """Everybody of the row of `round`, and of the last merge that was taken."""
    merges: MergesNow = MergesNow()


class RoundsDone(msgspec.Struct, frozen=True, kw_only=True):
    """`peerd rounds`: oldest first."""

    rounds: list[RoundRecord]


class SentRow(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes that went to one peer."""

    round: Round | None
    """Of the update that was fetched; for all else, the round this device was in. Null: older rounds together."""
    peer_id: PeerId
    """Empty: peers that are not kept apart any more."""
    name: str
    update_bytes: int
    """Of my update of that round."""
    passed_on_bytes: int
    """Of other peers' updates."""
    announcement_bytes: int
    """Announcements, mine and others', with what gossip needs to carry them."""
    last_unix: float


class SentUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """One own update that was announced."""

    round: Round
    unix: float
    blob: Digest
    size: int
    clip: float
    noise: float
    """0: it went out as it was."""
    epsilon: float | None
    """Of all updates with noise up to this one."""


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """`peerd sent`: what left this device. Bytes on their way to a peer that the last minute counted may be missing."""

    since_unix: float
    """Since when it is counted."""
    total: SentNow
    privacy: PrivacyNow
    updates: list[SentUpdate]
    """Oldest first; of the rounds asked for."""
    rows: list[SentRow]
    """By round and peer; of the rounds asked for, and the sum of the rounds too old to be kept apart."""


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """`peerd id`: what to tell others."""

    peer_id: PeerId
    name: str
    version: str
    addresses: list[str]
    """Multiaddrs that end in the peer id: all that this daemon listens at and announces, loopback included."""
    network: Digest | None
    group: str
    invitations: list[str] = []
    """Whole commands for others, one for each address that another machine may reach; empty where there is none."""
    invitation_notes: list[str] = []
    """What FILE and FOLDER in them stand for, from where they work, or why there is none."""
    joining: str = ""
    """The options among them that have to be the same."""


class Continuations(msgspec.Struct, frozen=True, kw_only=True):
    """`peerd generate`: continuations of one prompt."""

    prompt: str
    base: str
    own: str
    personal: str
    served: str
    """By the model that is served: of `served_by`."""
    served_by: Served
    """As in the status."""


class TestLosses(msgspec.Struct, frozen=True, kw_only=True):
    """POST /v1/test: mean cross-entropy in nats a token on the test split, which is opened only for reports."""

    __test__ = False  # not a test class, whatever pytest thinks of the name

    base: float
    own: float
    personal: float
    local: float | None
    served: float
    """Of the model that `peerd generate` and `peerd export` give."""
    documents: int
    tokens: int


class ExportedFolder(msgspec.Struct, frozen=True, kw_only=True):
    """`peerd export`."""

    folder: str
    files: list[str]
    which: Which
    """The model whose adapter it is."""


class Unbanned(msgspec.Struct, frozen=True, kw_only=True):
    """`peerd unban`: whose ban is lifted."""

    peer_id: str


class StopHeard(msgspec.Struct, frozen=True, kw_only=True):
    """POST /v1/stop: the daemon ends soon after."""

    stopping: bool = True


class Stopped(msgspec.Struct, frozen=True, kw_only=True):
    """`peerd stop`."""

    stopped: bool
    seconds: float


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """`peerd start`, printed when the daemon is ready."""

    pid: int
    peer_id: PeerId
    name: str
    group: str
    state: str
    addresses: list[str]
    home: str
    socket: str
    invitations: list[str] = []
    """As of `peerd id`."""
    log: str | None
    """Where a detached daemon writes; None in the foreground."""


class FileFate(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one file, or of a folder that was left out whole."""

    path: str
    reason: str
    """Why nothing of it is used; empty where something is."""
    documents: int
    """That no earlier file gave."""
    characters: int
    """Of these documents."""
    repeated: int
    """Documents equal to an earlier one."""
    bad_rows: int
    """Rows of a .jsonl file that are no JSON or have no text."""
    encoding: str
    """Empty where it was not opened."""
    guesses: list[str]
    """Encodings that it may be in, the best first, where it was guessed."""
    replaced: int
    """Characters that stand for bytes which mean nothing in that encoding."""
    left_out: dict[str, int]
    """Characters that are no text of a person's, by reason."""
    near_copies: int
    """Documents that are near copies of others, here or in another file."""
    splits: dict[str, int]
    """Documents by the split that they were dealt to: train, trust, guard, test; `no split` for near copies of
    documents in several; `new` for those that no daemon of this home has read yet."""


class TextRead(msgspec.Struct, frozen=True, kw_only=True):
    """`peerd read`."""

    data: list[str]
    text: TextNow
    """All files together."""
    files: list[FileFate]
    """In the order in which they were found."""


class DashboardOpened(msgspec.Struct, frozen=True, kw_only=True):
    """`peerd dashboard`; the address works once, for one browser."""

    url: str
    port: int


class Metrics(msgspec.Struct, frozen=True, kw_only=True):
    """`peerd metrics`."""

    text: str
    """In the Prometheus text format, version 0.0.4."""


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """GET /v1/health; HTTP status 503 where not ok."""

    ok: bool
    reasons: list[str]


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Why a command failed and what to do next."""

    code: str
    """usage | not-running | already-running | not-healthy | busy | store | transport | worker | unforeseen | failed;
    over HTTP also not-found | method | forbidden"""
    message: str
    hint: str = ""


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """What the API answers instead of a document."""

    error: Problem


OF_COMMANDS: dict[str, Any] = {
    "start": Started,
    "stop": Stopped,
    "read": TextRead,
    "metrics": Metrics,
    "dashboard": DashboardOpened,
}
"""Type of `data` of the commands that ask nothing of the daemon, or print something else than its answer."""


def document(command: str, data: Any) -> dict[str, Any]:
    """What `--json` prints when all went well."""
    return {"schema_version": SCHEMA_VERSION, "command": command, "status": "ok", "data": msgspec.to_builtins(data)}


def failure(command: str, problem: Problem) -> dict[str, Any]:
    """What `--json` prints when something failed."""
    status: Literal["error"] = "error"
    error = msgspec.to_builtins(problem)
    return {"schema_version": SCHEMA_VERSION, "command": command, "status": status, "error": error}
