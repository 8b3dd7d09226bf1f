"""The snapshot that `peerd status`, the API, the dashboard and the Python client all share. Never loads torch.

One writer (the shell) makes it, everyone else reads. Field names are a public contract: see docs/protocol.md.
"""

from __future__ import annotations

import msgspec

from p2pfinetune.names import Digest, PeerId, Round, Served

SCHEMA_VERSION = 1


class LossNow(msgspec.Struct, frozen=True, kw_only=True):
    """Mean cross-entropy in nats a token of the personal model; `train` is of the last training steps.

    50 stands for all beyond it, infinite or no number: the model has diverged.
    """

    train: float | None = None
    trust: float | None = None
    guard: float | None = None


class PerplexityNow(msgspec.Struct, frozen=True, kw_only=True):
    """On the guard split; `local` only with --twin. e^50 (5.2e21) stands for all beyond it: the model has diverged."""

    base: float | None = None
    own: float | None = None
    personal: float | None = None
    local: float | None = None


class LossMargin(msgspec.Struct, frozen=True, kw_only=True):
    """Loss of the personal model less that of another on the same windows: below zero, the personal one is better."""

    nats: float
    """A token."""
    within: float | None = None
    """Half of the 95 % interval, paired over windows and by document; null where one document was measured."""


class SplitFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What the figures of one held-out split rest on, and how far the personal model is from others there."""

    tokens: int
    documents: int
    windows: int
    against_base: LossMargin | None = None
    """Null where a loss was not finite."""
    against_local: LossMargin | None = None
    """The twin; on the guard split, where there is one."""


class HeldOutNow(msgspec.Struct, frozen=True, kw_only=True):
    """Of the last round: null before the first, and where an older version recorded it."""

    trust: SplitFigures | None = None
    guard: SplitFigures | None = None
    contradiction: str = ""
    """A sentence where one split says that the personal model got better and the other that it got worse."""


class NeighbourNow(msgspec.Struct, frozen=True, kw_only=True):
    """One peer of my network as I see it now."""

    peer_id: PeerId
    name: str
    trust: float
    """Its weight in my last merge that was taken; see `merges`."""
    age_seconds: float | None
    """Since its latest admitted update arrived."""
    round: Round
    connected: bool
    bytes_in: int
    bytes_out: int
    refused: dict[str, int]
    standing: str = "good"
    """good | throttled (it offended: heard more rarely, dialled and fetched last) | banned"""
    copy_of: PeerId | None = None
    """Whose update its own was a copy of in my last merge; perhaps mine."""
    refused_trust: float = 0.0
    """Its weight in a merge since that was not taken: nothing of it is in my model."""


class BannedNow(msgspec.Struct, frozen=True, kw_only=True):
    """A peer of which nothing is wanted for now."""

    peer_id: PeerId
    name: str
    """Empty where it never said one, or not in this run."""
    seconds: float
    """Until the ban ends by itself."""
    bans: int
    """How often it has been banned, this time included; the next one is longer."""
    reason: str
    """The last offence."""


class TrafficNow(msgspec.Struct, frozen=True, kw_only=True):
    """Since the daemon started."""

    bytes_in: int = 0
    bytes_out: int = 0


class SentNow(msgspec.Struct, frozen=True, kw_only=True):
    """All that ever left this device, as far as its book goes back; `peerd sent` has the details."""

    publications: int = 0
    """Own updates announced."""
    bytes: int = 0
    """To peers: updates and announcements."""
    peers: int = 0


class PrivacyNow(msgspec.Struct, frozen=True, kw_only=True):
    """What the own updates betray, where that is bounded. The unit is the whole local text."""

    mechanism: str = "none"
    """none | gaussian: of the updates to come."""
    clip: float | None = None
    noise: float | None = None
    """Standard deviation in units of the sensitivity, which is twice the clip."""
    delta: float | None = None
    budget: float | None = None
    publications: int = 0
    """Updates published with noise, ever."""
    bare: int = 0
    """Updates published without noise, ever."""
    epsilon: float | None = None
    """Of everything published; null where no bound holds, or nothing was published."""
    sentence: str = ""
    """What that means."""


class TextNow(msgspec.Struct, frozen=True, kw_only=True):
    """What was read of --data the last time, and what was not; `peerd read` says it of every file."""

    files: int = 0
    """That gave at least one document."""
    documents: int = 0
    characters: int = 0
    """Of all documents."""
    skipped: dict[str, int] = {}
    """Files and folders of which nothing is used, by reason."""
    left_out: dict[str, int] = {}
    """Characters that are no text of a person's (attachments, keys, generated text), by reason."""
    repeated: int = 0
    """Documents equal to another."""
    bad_rows: int = 0
    """Rows of .jsonl files that are no JSON or have no text."""
    encodings: dict[str, int] = {}
    """Files that are used, by encoding."""
    replaced: int = 0
    """Characters that stand for bytes which mean nothing in their file's encoding."""
    copies_together: int = 0
    """Documents kept in one split with near copies of theirs, replies that quote, other versions of the text."""
    copies_left_out: int = 0
    """Documents in no split, since near copies of them stand in several."""


class HealthNow(msgspec.Struct, frozen=True, kw_only=True):
    """`reasons` are whole sentences with the next thing to do; empty when ok."""

    ok: bool
    reasons: list[str]


class WorkerNow(msgspec.Struct, frozen=True, kw_only=True):
    """The child process that owns torch."""

    state: str
    """starting | idle | training | collaborating | encoding | inspecting | generating | restarting | stopped"""
    device: str = ""
    precision: str = ""
    """fp32 or bf16: in which it trains; empty before a worker has started."""
    precision_why: str = ""
    """Empty where --precision says it and nothing is to be added."""
    twin: str = ""
    """on | off: whether a twin trains beside, that never merges; empty before a worker has started."""
    twin_why: str = ""
    """Empty where --twin says it and nothing is to be added."""
    tokens_per_second: float | None = None
    restarts: int = 0
    last_error: str = ""


class LoopNow(msgspec.Struct, frozen=True, kw_only=True):
    """How long the event loop was held, milliseconds: CPU time of its longest callback, and wall-clock lag."""

    max_callback_cpu_ms: float = 0.0
    max_lag_ms: float = 0.0


class FailuresNow(msgspec.Struct, frozen=True, kw_only=True):
    """What failed since the start that nobody foresaw. The daemon goes on without; the log has the tracebacks."""

    counts: dict[str, int] = {}
    """By what failed: an effect, a task, the core at an event."""
    last: str = ""
    """The last one, in words."""
    last_seconds: float | None = None
    """Since then."""


class MergesNow(msgspec.Struct, frozen=True, kw_only=True):
    """What my personal model took from others when it took anything last, and what it has not taken since.

    Own training has gone on since, upon that merge and those before it.
    """

    round: Round | None = None
    """Of the last merge that was taken; null where none was."""
    unix: float | None = None
    row: dict[PeerId, float] = {}
    """Its weights as it was taken, a part of the way included; mine is among them."""
    refused: int = 0
    """Merges in a row that were not taken since."""
    since_round: Round | None = None
    """Of the first of them."""
    since_unix: float | None = None
    reason: str = ""
    """Of the last of them: worse-than-own | above-best | not-finite | returned-to-best"""
    refused_row: dict[PeerId, float] = {}
    """Of the last of them."""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a person asks first."""

    peer_id: PeerId
    name: str
    version: str
    network: Digest | None
    group: str
    uptime_seconds: float
    round: Round
    state: str
    """starting | training | publishing | collecting | merging | resting | stopping"""
    sentence: str
    """The state in plain words, with why."""
    loss: LossNow
    perplexity: PerplexityNow
    neighbours: list[NeighbourNow]
    traffic: TrafficNow
    health: HealthNow
    worker: WorkerNow
    loop: LoopNow
    addresses: list[str]
    model: str
    trust_scheme: str
    refused: dict[str, int]
    """Refusals by reason, all peers together."""
    turned_away: dict[str, int] = {}
    """What strangers tried on the network that came to nothing, by kind."""
    banned: list[BannedNow] = []
    """Whose ban ends last comes first."""
    round_seconds: float = 0.0
    """How long the last full round of this run took."""
    dropped: int = 0
    """Announcements of strangers, and hints where peers are, that a flood drowned."""
    sent: SentNow = SentNow()
    privacy: PrivacyNow = PrivacyNow()
    looking: bool = False
    """Whether it was told where to find peers: --bootstrap, --peer or --lan."""
    text: TextNow = TextNow()
    served: Served = "personal"
    """What `peerd generate` and `peerd export` give since the last round, not behind the twin
    on the guard split. Best: the personal model as it was at its best; local: the twin as it was at its best."""
    merge: str = ""
    """What became of the last merge, in words; empty before the first round."""
    failures: FailuresNow = FailuresNow()
    before: str = ""
    """How the run before this one ended, where that was not in order; else empty."""
    notices: list[str] = []
    """What should be known though nothing has to be wrong, in whole sentences."""
    held_out: HeldOutNow = HeldOutNow()
    """What `loss.trust`, `loss.guard` and `perplexity` rest on."""
    joining: str = ""
    """What others type behind `peerd start`, besides an address, to be of the same network."""
    invitations: list[str] = []
    """Whole commands for others, one for each address that another machine may reach; empty where there is none."""
    invitation_notes: list[str] = []
    """What FILE and FOLDER in them stand for, from where they work, or why there is none."""
    merges: MergesNow = MergesNow()
    """What my model took from others, and since when it has taken nothing."""


class RoundRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One finished round, as stored and as shown by `peerd rounds` and the dashboard's curves."""

    round: Round
    finished_unix: float
    loss_train: float | None
    loss_trust: float | None
    guard_base: float | None
    guard_own: float | None
    guard_personal: float | None
    guard_local: float | None
    row: dict[PeerId, float]
    accepted: bool
    reason: str
    steps: int
    bytes_in: int
    bytes_out: int
    served: Served = "personal"
    """Whose adapter was used and exported from then on."""
    on_trust: SplitFigures | None = None
    """What `loss_trust` rests on; null where an older version recorded the round."""
    on_guard: SplitFigures | None = None
    """What the guard's losses rest on; likewise."""
