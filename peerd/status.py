"""The snapshot that `peerd status`, the API, the dashboard and the Python client all share. Never loads torch.

One writer (the shell) makes it, everyone else reads. Field names are a public contract: see docs/protocol.md.

It is a picture of one moment and holds no history, so a reader that missed some has missed nothing. Names that end in
`Now` are parts of it. What a peer chose (its name) is untrusted, and shown through `peerd.control.peer_names`.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from p2pfinetune.names import Digest, PeerId, Round, Served
from p2pfinetune.round.figures import LossMargin, RoundFigures, SplitFigures

SCHEMA_VERSION = 1


class LossNow(msgspec.Struct, frozen=True, kw_only=True):
    """Mean cross-entropy in nats a token of the personal model; `train` is of the last training steps.

    50 stands for all beyond it, infinite or no number: the model has diverged.
    """

    train: float | None = None
    trust: float | None = None
    guard: float | None = None


class PerplexityNow(msgspec.Struct, frozen=True, kw_only=True):
    """On the guard split; `twin` only with --twin. e^50 (5.2e21) stands for all beyond it: the model has diverged."""

    base: float | None = None
    own: float | None = None
    personal: float | None = None
    twin: float | None = None
    local: Annotated[float | None, Meta(description="The same as `twin`, until the next version.")] = None

    def __post_init__(self) -> None:
        """The old key says what the new one says."""
        say_alike(self, "twin", "local")


class SplitNow(SplitFigures, frozen=True, kw_only=True):
    """What the figures of one held-out split rest on, and how far the personal model is from others there."""

    against_twin: Annotated[
        LossMargin | None, Meta(description="The twin; on the guard split, where there is one.")
    ] = msgspec.field(default=None, name="against_twin")
    against_local: Annotated[LossMargin | None, Meta(description="The same, until the next version.")] = None

    def __post_init__(self) -> None:
        """The old key says what the new one says."""
        say_alike(self, "against_twin", "against_local")


class HeldOutNow(msgspec.Struct, frozen=True, kw_only=True):
    """Of the last round: null before the first, and where an older version recorded it."""

    trust: SplitNow | None = None
    guard: SplitNow | None = None
    contradiction: Annotated[
        str,
        Meta(
            description="A sentence where one split says that the personal model got better and the other that "
            "it got worse."
        ),
    ] = ""


class NeighbourNow(msgspec.Struct, frozen=True, kw_only=True):
    """One peer of my network as I see it now."""

    peer_id: PeerId
    name: str
    trust: Annotated[float, Meta(description="Its weight in my last merge that was taken; see `merges`.")]
    age_seconds: Annotated[float | None, Meta(description="Since its latest admitted update arrived.")]
    round: Round
    connected: bool
    bytes_in: int
    bytes_out: int
    refused: dict[str, int]
    standing: Annotated[
        str, Meta(description="good | throttled (it offended: heard more rarely, dialled and fetched last) | banned")
    ] = "good"
    copy_of: Annotated[
        PeerId | None, Meta(description="Whose update its own was a copy of in my last merge; perhaps mine.")
    ] = None
    refused_trust: Annotated[
        float, Meta(description="Its weight in a merge since that was not taken: nothing of it is in my model.")
    ] = 0.0


class BannedNow(msgspec.Struct, frozen=True, kw_only=True):
    """A peer of which nothing is wanted for now."""

    peer_id: PeerId
    name: Annotated[str, Meta(description="Empty where it never said one, or not in this run.")]
    seconds: Annotated[float, Meta(description="Until the ban ends by itself.")]
    bans: Annotated[int, Meta(description="How often it has been banned, this time included; the next one is longer.")]
    reason: Annotated[str, Meta(description="The last offence.")]


class TrafficNow(msgspec.Struct, frozen=True, kw_only=True):
    """Since the daemon started."""

    bytes_in: int = 0
    bytes_out: int = 0


class SentNow(msgspec.Struct, frozen=True, kw_only=True):
    """All that ever left this device, as far as its book goes back; `peerd sent` has the details."""

    publications: Annotated[int, Meta(description="Own updates announced.")] = 0
    bytes: Annotated[int, Meta(description="To peers: updates and announcements.")] = 0
    peers: int = 0


class PrivacyNow(msgspec.Struct, frozen=True, kw_only=True):
    """What the own updates betray, where that is bounded. The unit is the whole local text."""

    mechanism: Annotated[str, Meta(description="none | gaussian: of the updates to come.")] = "none"
    clip: float | None = None
    noise: Annotated[
        float | None, Meta(description="Standard deviation in units of the sensitivity, which is twice the clip.")
    ] = None
    delta: float | None = None
    budget: float | None = None
    publications: Annotated[int, Meta(description="Updates published with noise, ever.")] = 0
    bare: Annotated[int, Meta(description="Updates published without noise, ever.")] = 0
    epsilon: Annotated[
        float | None, Meta(description="Of everything published; null where no bound holds, or nothing was published.")
    ] = None
    sentence: Annotated[str, Meta(description="What that means.")] = ""


class TextNow(msgspec.Struct, frozen=True, kw_only=True):
    """What was read of --data the last time, and what was not; `peerd data` says it of every file."""

    files: Annotated[int, Meta(description="That gave at least one document.")] = 0
    documents: int = 0
    characters: Annotated[int, Meta(description="Of all documents.")] = 0
    skipped: Annotated[dict[str, int], Meta(description="Files and folders of which nothing is used, by reason.")] = {}
    left_out: Annotated[
        dict[str, int],
        Meta(description="Characters that are no text of a person's (attachments, keys, generated text), by reason."),
    ] = {}
    repeated: Annotated[int, Meta(description="Documents equal to another.")] = 0
    bad_rows: Annotated[
        int, Meta(description="Rows of JSON files that are no JSON, or neither conversations nor text.")
    ] = 0
    conversations: Annotated[int, Meta(description="How many of the documents are conversations.")] = 0
    refused: Annotated[int, Meta(description="Conversations that the model's chat template has no place for.")] = 0
    encodings: Annotated[dict[str, int], Meta(description="Files that are used, by encoding.")] = {}
    replaced: Annotated[
        int, Meta(description="Characters that stand for bytes which mean nothing in their file's encoding.")
    ] = 0
    copies_together: Annotated[
        int,
        Meta(
            description="Documents kept in one split with near copies of theirs, replies that quote, other "
            "versions of the text."
        ),
    ] = 0
    copies_left_out: Annotated[
        int, Meta(description="Documents in no split, since near copies of them stand in several.")
    ] = 0


class HealthNow(msgspec.Struct, frozen=True, kw_only=True):
    """`reasons` are whole sentences with the next thing to do; empty when ok."""

    ok: bool
    reasons: list[str]


class MemoryNow(msgspec.Struct, frozen=True, kw_only=True):
    """What the worker takes of the machine's memory, as it was computed before the model was loaded."""

    needed_bytes: Annotated[
        int | None, Meta(description="The highest of a round; null if the model's config.json does not tell it.")
    ] = None
    available_bytes: Annotated[
        int | None,
        Meta(
            description="What it may take: --worker-memory, or a share of the machine's or container's; null: unknown."
        ),
    ] = None
    parts: Annotated[
        dict[str, int],
        Meta(description="Bytes of libraries, weights, adapter, and what the largest stage of a round takes beside."),
    ] = {}
    said: Annotated[str, Meta(description="The sum in words.")] = ""
    measures: Annotated[str, Meta(description="What was done so that it fits; empty if nothing had to be.")] = ""
    advice: Annotated[
        str, Meta(description="What a person can do; empty unless workers go on running out of memory.")
    ] = ""


class WorkerNow(msgspec.Struct, frozen=True, kw_only=True):
    """The child process that owns torch."""

    state: Annotated[
        str,
        Meta(
            description="starting | idle | training | collaborating | encoding | inspecting | generating | "
            "evaluating | restarting | stopped"
        ),
    ]
    device: str = ""
    precision: Annotated[
        str, Meta(description="fp32 or bf16: in which it trains; empty before a worker has started.")
    ] = ""
    precision_why: Annotated[str, Meta(description="Empty where --precision says it and nothing is to be added.")] = ""
    twin: Annotated[
        str,
        Meta(
            description="on | off: whether a twin trains beside, that never merges; empty before a worker has started."
        ),
    ] = ""
    twin_why: Annotated[str, Meta(description="Empty where --twin says it and nothing is to be added.")] = ""
    tokens_per_second: float | None = None
    known_as: Annotated[
        str,
        Meta(
            description="The base model as peers know it: its name on the hub, or the title of its file or the name of "
            "its folder with a digest; empty before a worker has started."
        ),
    ] = ""
    licence: Annotated[
        str, Meta(description="Of the base model, as its card or file states it; empty if neither does.")
    ] = ""
    restarts: int = 0
    last_error: str = ""
    reading: Annotated[
        str,
        Meta(description="While the worker starts, how far it is with the text: `reading files: 31,200 of 100,000`."),
    ] = ""
    memory: MemoryNow = MemoryNow()


class LoopNow(msgspec.Struct, frozen=True, kw_only=True):
    """How long the event loop was held, milliseconds: CPU time of its longest callback, and wall-clock lag."""

    max_callback_cpu_ms: float = 0.0
    max_lag_ms: float = 0.0


class FailuresNow(msgspec.Struct, frozen=True, kw_only=True):
    """What failed since the start that nobody foresaw. The daemon goes on without; the log has the tracebacks."""

    counts: Annotated[dict[str, int], Meta(description="By what failed: an effect, a task, the core at an event.")] = {}
    last: Annotated[str, Meta(description="The last one, in words.")] = ""
    last_seconds: Annotated[float | None, Meta(description="Since then.")] = None


class MergesNow(msgspec.Struct, frozen=True, kw_only=True):
    """What my personal model took from others when it took anything last, and what it has not taken since.

    Own training has gone on since, upon that merge and those before it.
    """

    round: Annotated[Round | None, Meta(description="Of the last merge that was taken; null where none was.")] = None
    unix: float | None = None
    row: Annotated[
        dict[PeerId, float],
        Meta(description="Its weights as it was taken, a part of the way included; mine is among them."),
    ] = {}
    refused: Annotated[int, Meta(description="Merges in a row that were not taken since.")] = 0
    since_round: Annotated[Round | None, Meta(description="Of the first of them.")] = None
    since_unix: float | None = None
    reason: Annotated[
        str, Meta(description="Of the last of them: worse-than-own | above-best | not-finite | returned-to-best")
    ] = ""
    refused_row: Annotated[dict[PeerId, float], Meta(description="Of the last of them.")] = {}


class WorthNow(msgspec.Struct, frozen=True, kw_only=True):
    """What collaboration is worth here, on the guard split of the last rounds; a little flattering, since it chose."""

    sentence: Annotated[str, Meta(description="All of it in one sentence; empty before the first round.")] = ""
    against_base: LossMargin | None = None
    against_twin: Annotated[LossMargin | None, Meta(description="Null where no twin trains.")] = None
    brought: Annotated[
        LossMargin | None,
        Meta(
            description="What merging did to my own adapter, the mean a round over the last `rounds`: below zero, it "
            "got better. The interval is the mean of the rounds' intervals."
        ),
    ] = None
    rounds: int = 0
    merges: Annotated[int, Meta(description="Of these rounds, those whose merge was taken.")] = 0
    why: Annotated[str, Meta(description="Why nothing was brought that can be seen; empty where something was.")] = ""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a person asks first."""

    peer_id: PeerId
    name: str
    version: str
    network: Digest | None
    group: str
    uptime_seconds: float
    round: Round
    state: Annotated[
        str,
        Meta(
            description="starting | gathering | assembling | training | publishing | collecting | merging | resting | "
            "stopping"
        ),
    ]
    sentence: Annotated[str, Meta(description="The state in plain words, with why.")]
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
    refused: Annotated[dict[str, int], Meta(description="Refusals by reason, all peers together.")]
    turned_away: Annotated[
        dict[str, int], Meta(description="What strangers tried on the network that came to nothing, by kind.")
    ] = {}
    banned: Annotated[list[BannedNow], Meta(description="Whose ban ends last comes first.")] = []
    round_seconds: Annotated[float, Meta(description="How long the last full round of this run took.")] = 0.0
    dropped: Annotated[
        int, Meta(description="Announcements of strangers, and hints where peers are, that a flood drowned.")
    ] = 0
    sent: SentNow = SentNow()
    privacy: PrivacyNow = PrivacyNow()
    looking: Annotated[
        bool, Meta(description="Whether it was told where to find peers: --bootstrap, --peer or --lan.")
    ] = False
    text: TextNow = TextNow()
    served: Annotated[
        Served,
        Meta(
            description="What `peerd generate` and `peerd export` give since the last round, not behind the twin "
            "on the guard split. Best: the personal model as it was at its best; local: the twin as "
            "it was at its best."
        ),
    ] = "personal"
    merge: Annotated[
        str, Meta(description="What became of the last merge, in words; empty before the first round.")
    ] = ""
    failures: FailuresNow = FailuresNow()
    before: Annotated[
        str, Meta(description="How the run before this one ended, where that was not in order; else empty.")
    ] = ""
    notices: Annotated[
        list[str], Meta(description="What should be known though nothing has to be wrong, in whole sentences.")
    ] = []
    worth: Annotated[WorthNow, Meta(description="What collaboration is worth here.")] = WorthNow()
    held_out: Annotated[HeldOutNow, Meta(description="What `loss.trust`, `loss.guard` and `perplexity` rest on.")] = (
        HeldOutNow()
    )
    joining: Annotated[
        str, Meta(description="What others type behind `peerd start`, besides an address, to be of the same network.")
    ] = ""
    invitations: Annotated[
        list[str],
        Meta(
            description="Whole commands for others, one for each address that another machine may reach; empty "
            "where there is none."
        ),
    ] = []
    invitation_notes: Annotated[
        list[str],
        Meta(description="What FILE and FOLDER in them stand for, from where they work, or why there is none."),
    ] = []
    assembly: Annotated[
        str, Meta(description="What came of `--assemble` in this home, in words; empty where it was not asked for.")
    ] = ""
    merges: Annotated[
        MergesNow, Meta(description="What my model took from others, and since when it has taken nothing.")
    ] = MergesNow()


class RoundRecord(RoundFigures, frozen=True, kw_only=True):
    """One finished round as shown by `peerd rounds` and the dashboard's curves; `peerd.store.rounds` has its row."""

    guard_twin: float | None = msgspec.field(default=None, name="guard_twin")
    guard_local: Annotated[float | None, Meta(description="The same as `guard_twin`, until the next version.")] = None
    on_trust: Annotated[
        SplitNow | None,
        Meta(description="What `loss_trust` rests on; null where an older version recorded the round."),
    ] = None
    on_guard: Annotated[SplitNow | None, Meta(description="What the guard's losses rest on; likewise.")] = None
    round: Round
    finished_unix: float
    row: dict[PeerId, float]
    accepted: bool
    reason: str
    steps: int
    bytes_in: int
    bytes_out: int
    served: Annotated[Served, Meta(description="Whose adapter was used and exported from then on.")] = "personal"

    def __post_init__(self) -> None:
        """The old key says what the new one says."""
        say_alike(self, "guard_twin", "guard_local")


def say_alike(value: msgspec.Struct, name: str, formerly: str) -> None:
    """A key under its name and, for one version, under the former one; an older daemon's document has that alone."""
    told = getattr(value, name)
    if told is None:
        msgspec.structs.force_setattr(value, name, getattr(value, formerly))
    else:
        msgspec.structs.force_setattr(value, formerly, told)
