"""The JSON documents that the API gives and `--json` prints, as types; docs/protocol.md is generated from them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from p2pfinetune.model.listing import ModelHere
from p2pfinetune.names import Digest, ExportFormat, PeerId, Round, Served, Which
from p2pfinetune.round.figures import ModelFigures
from peerd.status import (
    SCHEMA_VERSION,
    BannedNow,
    MergesNow,
    NeighbourNow,
    PrivacyNow,
    RoundRecord,
    SentNow,
    TextNow,
    say_alike,
)


class PeersNow(msgspec.Struct, frozen=True, kw_only=True):
    """`peerd peers`."""

    peers: list[NeighbourNow]
    banned: list[BannedNow] = []


class TrustPoint(msgspec.Struct, frozen=True, kw_only=True):
    """One weight in one round."""

    round: Round
    weight: float
    taken: Annotated[
        bool, Meta(description="Whether the merge of that round was; if not, nothing of it is in my model.")
    ] = True


class TrustedPeer(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of my trust row, with what it rests on."""

    peer_id: PeerId
    name: str
    is_me: bool
    weight: Annotated[float, Meta(description="In the row of `round`, taken or not.")]
    mean_weight: Annotated[float, Meta(description="Over the rounds of `history`.")]
    history: Annotated[list[TrustPoint], Meta(description="Oldest first, at most the last 100 rounds.")]
    update_round: Annotated[Round | None, Meta(description="The peer's own round of its latest admitted update.")]
    update_age_seconds: float | None
    refused: Annotated[dict[str, int], Meta(description="What I did not take from it, by reason.")]
    copy_of: Annotated[
        PeerId | None, Meta(description="Whose update its own was a copy of in my last merge; perhaps mine.")
    ] = None
    taken_weight: Annotated[
        float,
        Meta(
            description="In the last merge that was taken: what my model is made of. That may be of an earlier "
            "round; see `merges`."
        ),
    ] = 0.0


class TrustNow(msgspec.Struct, frozen=True, kw_only=True):
    """`peerd trust`: my last row, whether it was taken, why, and how it came about."""

    scheme: str
    measured: Annotated[str, Meta(description="What the scheme measures, in one sentence.")]
    round: Round | None
    accepted: Annotated[
        bool | None, Meta(description="Whether the guard took the merge; None before the first round ended.")
    ]
    reason: str
    guard_own: float | None
    guard_personal: float | None
    row: Annotated[
        list[TrustedPeer], Meta(description="Everybody of the row of `round`, and of the last merge that was taken.")
    ]
    merges: MergesNow = MergesNow()


class RoundsDone(msgspec.Struct, frozen=True, kw_only=True):
    """`peerd rounds`: oldest first."""

    rounds: list[RoundRecord]


class SentRow(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes that went to one peer."""

    round: Annotated[
        Round | None,
        Meta(
            description="Of the update that was fetched; for all else, the round this device was in. Null: older "
            "rounds together."
        ),
    ]
    peer_id: Annotated[PeerId, Meta(description="Empty: peers that are not kept apart any more.")]
    name: str
    update_bytes: Annotated[int, Meta(description="Of my update of that round.")]
    passed_on_bytes: Annotated[int, Meta(description="Of other peers' updates.")]
    announcement_bytes: Annotated[
        int, Meta(description="Announcements, mine and others', with what gossip needs to carry them.")
    ]
    last_unix: float


class SentUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """One own update that was announced."""

    round: Round
    unix: float
    blob: Digest
    size: int
    clip: float
    noise: Annotated[float, Meta(description="0: it went out as it was.")]
    epsilon: Annotated[float | None, Meta(description="Of all updates with noise up to this one.")]


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """`peerd sent`: what left this device. Bytes on their way to a peer that the last minute counted may be missing."""

    since_unix: Annotated[float, Meta(description="Since when it is counted.")]
    total: SentNow
    privacy: PrivacyNow
    updates: Annotated[list[SentUpdate], Meta(description="Oldest first; of the rounds asked for.")]
    rows: Annotated[
        list[SentRow],
        Meta(
            description="By round and peer; of the rounds asked for, and the sum of the rounds too old to be "
            "kept apart."
        ),
    ]


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """`peerd id`: what to tell others."""

    peer_id: PeerId
    name: str
    version: str
    addresses: Annotated[
        list[str],
        Meta(
            description="Multiaddrs that end in the peer id: all that this daemon listens at and announces, "
            "loopback included."
        ),
    ]
    network: Digest | None
    group: str
    invitations: Annotated[
        list[str],
        Meta(
            description="Whole commands for others, one for each address that another machine may reach; empty "
            "where there is none."
        ),
    ] = []
    invitation_notes: Annotated[
        list[str],
        Meta(
            description="What FILE, FOLDER, MODEL.gguf in them stand for, from where they work, or why there is none."
        ),
    ] = []
    joining: Annotated[str, Meta(description="The options among them that have to be the same.")] = ""


class Continuations(msgspec.Struct, frozen=True, kw_only=True):
    """`peerd generate`: continuations of one prompt."""

    prompt: str
    base: str
    own: str
    personal: str
    served: Annotated[str, Meta(description="By the model that is served: of `served_by`.")]
    served_by: Annotated[Served, Meta(description="As in the status.")]


class TestLosses(msgspec.Struct, frozen=True, kw_only=True):
    """POST /v1/test: mean cross-entropy in nats a token on the test split, which is opened only for reports."""

    __test__ = False  # not a test class, whatever pytest thinks of the name

    base: float
    own: float
    personal: float
    twin: float | None = None
    local: Annotated[float | None, Meta(description="The same as `twin`, until the next version.")] = None
    served: Annotated[float, Meta(description="Of the model that `peerd generate` and `peerd export` give.")]
    documents: int
    tokens: int

    def __post_init__(self) -> None:
        """The old key says what the new one says."""
        say_alike(self, "twin", "local")


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """When the own test split was looked at."""

    unix: float
    round: Round


class Evaluated(msgspec.Struct, frozen=True, kw_only=True):
    """`peerd eval`: every model on one text."""

    on: Annotated[Literal["files", "heldout"], Meta(description="heldout: the own test split.")]
    models: Annotated[dict[str, ModelFigures], Meta(description="base, own, personal, served; twin where one trains.")]
    served_by: Served
    tokens: Annotated[int, Meta(description="Measured, of `of_tokens`; of chats those of the answers.")]
    documents: Annotated[int, Meta(description="Measured, of `of_documents`.")]
    windows: int
    of_tokens: int
    of_documents: int
    known: Annotated[
        dict[str, int],
        Meta(description="Documents of the text that stand word for word in my own text, by split."),
    ] = {}
    text: Annotated[TextNow | None, Meta(description="What was read of the files.")] = None
    looks: Annotated[
        list[Look], Meta(description="When the own test split was looked at, these figures included, oldest first.")
    ] = []
    is_kept: Annotated[
        bool, Meta(description="These are the figures of the first look, and nothing was measured now.")
    ] = False


class ExportedFolder(msgspec.Struct, frozen=True, kw_only=True):
    """`peerd export`."""

    folder: str
    files: list[str]
    which: Annotated[Which, Meta(description="The model whose adapter it is.")]
    format: ExportFormat = "peft"
    bytes: Annotated[int, Meta(description="Of all files.")] = 0


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
    invitations: Annotated[list[str], Meta(description="As of `peerd id`.")] = []
    log: Annotated[str | None, Meta(description="Where a detached daemon writes; None in the foreground.")]


class FileFate(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one file, or of a folder that was left out whole."""

    path: str
    reason: Annotated[str, Meta(description="Why nothing of it is used; empty where something is.")]
    documents: Annotated[int, Meta(description="That no earlier file gave.")]
    conversations: Annotated[int, Meta(description="How many of these documents are conversations.")]
    characters: Annotated[int, Meta(description="Of these documents.")]
    tokens: Annotated[int, Meta(description="Of these documents; of conversations those that are learnt.")]
    repeated: Annotated[int, Meta(description="Documents equal to an earlier one.")]
    bad_rows: Annotated[int, Meta(description="Rows of JSON that are none, or neither conversations nor text.")]
    encoding: Annotated[str, Meta(description="Empty where it was not opened.")]
    guesses: Annotated[
        list[str], Meta(description="Encodings that it may be in, the best first, where it was guessed.")
    ]
    replaced: Annotated[int, Meta(description="Characters that stand for bytes which mean nothing in that encoding.")]
    left_out: Annotated[dict[str, int], Meta(description="Characters that are no text of a person's, by reason.")]
    near_copies: Annotated[int, Meta(description="Documents that are near copies of others, here or in another file.")]
    equal_to: Annotated[list[str], Meta(description="Other files with a document of this one; ten at most.")]
    near_to: Annotated[list[str], Meta(description="Other files with near copies of its documents; ten at most.")]
    splits: Annotated[
        dict[str, int],
        Meta(
            description="Documents by split: train, trust, guard, test; `no split` for near copies of documents in "
            "several. Those that no daemon of this home has read yet are where the next reading would put them."
        ),
    ]
    new: Annotated[int, Meta(description="Documents that no daemon of this home has read yet.")]


class ExamplePart(msgspec.Struct, frozen=True, kw_only=True):
    """What stands together in a document and is learnt, or read and not learnt."""

    text: str
    is_learnt: bool


class ExampleShown(msgspec.Struct, frozen=True, kw_only=True):
    """A document as the model sees it, made of its token ids again."""

    source: str
    split: str
    tokens: int
    learnt: Annotated[int, Meta(description="Of these tokens, what the loss is taken on.")]
    parts: Annotated[
        list[ExamplePart],
        Meta(description="In their order, with control tokens spelled out as the tokenizer has them."),
    ]


class DataLooked(msgspec.Struct, frozen=True, kw_only=True):
    """`peerd data`."""

    data: list[str]
    model: Annotated[str, Meta(description="The base whose tokens are counted.")]
    text: Annotated[TextNow, Meta(description="All files together.")]
    loss: Annotated[str, Meta(description="answers | all: what is learnt of conversations.")]
    tokens: Annotated[dict[str, int], Meta(description="By split; of conversations those that are learnt.")]
    new: Annotated[int, Meta(description="Documents that no daemon of this home has read yet.")]
    has_home: Annotated[
        bool,
        Meta(description="Without a home nobody knows which documents will be held out, only how much of the text."),
    ]
    lacking: Annotated[str, Meta(description="Why this is too little text to start with; empty if it is enough.")]
    examples: Annotated[list[ExampleShown], Meta(description="As many as --show asked for.")]
    files: Annotated[list[FileFate], Meta(description="In the order in which they were found.")]


class DashboardOpened(msgspec.Struct, frozen=True, kw_only=True):
    """`peerd dashboard`; the address works once, for one browser."""

    url: str
    port: int


class ServeOpened(msgspec.Struct, frozen=True, kw_only=True):
    """`peerd serve`: where clients find it."""

    url: Annotated[str, Meta(description="Of Ollama's interface; OpenAI's is below it, at /v1. Empty for a socket.")]
    port: Annotated[int | None, Meta(description="On 127.0.0.1.")]
    socket: Annotated[str, Meta(description="Path of the Unix socket; empty for a port.")]
    key_file: Annotated[str, Meta(description="Where the key stands; empty if none is needed.")]
    key: Annotated[str, Meta(description="If it was made now, or asked for; else empty.")]
    models: Annotated[list[str], Meta(description="Those that there are, by name.")]


class Metrics(msgspec.Struct, frozen=True, kw_only=True):
    """`peerd metrics`."""

    text: Annotated[str, Meta(description="In the Prometheus text format, version 0.0.4.")]


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Why a command failed and what to do next."""

    code: Annotated[
        str,
        Meta(
            description="usage | too-long | not-running | already-running | not-healthy | busy | store | transport "
            "| worker | unforeseen | failed; over HTTP also not-found | method | forbidden"
        ),
    ]
    message: str
    hint: str = ""


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """What the API answers instead of a document."""

    error: Problem


class Debugged(msgspec.Struct, frozen=True, kw_only=True):
    """What the flight recorder has."""

    events: int
    """Events of the core that it holds."""
    checks: bool
    """Whether the invariants of the core are looked at after every event."""
    record: bytes = b""
    """The file of `peerd debug record`, in base64: no text, tensors or keys; ids and addresses of peers."""
    lines: list[str] = []
    """The story: what happened to a peer or a blob, oldest first."""
    file: str = ""
    """Where the command wrote the record."""


class ModelsListed(msgspec.Struct, frozen=True, kw_only=True):
    """What `peerd models` found, fetched, measured or removed."""

    models: list[ModelHere]
    freed_bytes: int = 0
    """Of what was removed."""


OF_COMMANDS: dict[str, Any] = {
    "start": Started,
    "stop": Stopped,
    "data": DataLooked,
    "models": ModelsListed,
    "metrics": Metrics,
    "dashboard": DashboardOpened,
    "serve": ServeOpened,
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
