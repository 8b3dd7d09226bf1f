"""What the daemon and its worker child say to each other: length-prefixed MessagePack over two pipes.

Jobs run one at a time, in the order they came; only `Respond` goes on by turns with the others, and may be cancelled.
Each ends in exactly one answer with the same `id`; while it runs it may send `JobProgress`, or `Spoken`. Tensors never
travel here: they are blob files named by path.
"""

from __future__ import annotations

import msgspec

from p2pfinetune.model.memory import MemoryPlan
from p2pfinetune.names import Digest, ExportFormat, PeerId, Round, Served, Which
from p2pfinetune.round.figures import ModelFigures, RoundFigures
from p2pfinetune.speech import Begun, ChatLine, Ended, Piece, Sampling
from peerd.config import Config
from peerd.status import TextNow
from peerd.worker.hidden import Private
from peerd.worker.planned import Planned


class Job(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Something for the worker to do."""

    id: int


class Open(Job, frozen=True, kw_only=True, tag=True):
    """First job: load model and data, restore the checkpoint if there is one."""

    config: Config
    cache: str
    scratch: str
    """Folder, on the shelf's file system, for files that the daemon then adopts."""
    splits: str
    """Of the record of which documents are held out."""
    me: PeerId
    checkpoint: str | None
    best: str | None
    """Path of the adapter with the best guard loss."""
    best_guard: float | None
    lighter_than: MemoryPlan | None = None
    """Workers before ran out of memory by this plan."""


class TrainSteps(Job, frozen=True, kw_only=True, tag=True):
    """Run optimizer steps of the own (and the twin's) training, then write a checkpoint file."""

    round: Round
    steps: int


class Encode(Job, frozen=True, kw_only=True, tag=True):
    """Write the own adapter, relative to the seeded initial one, as a file."""

    codec: str
    private: Private | None = None
    key: str | None = None
    """Path of the last key frame of this codec that was published; None: write one."""
    since_key: int = 0
    """Publications since then, that one included."""


class AdmitUpdate(Job, frozen=True, kw_only=True, tag=True):
    """Decode and inspect a fetched blob."""

    path: str
    codec: str
    base: str | None = None
    """Path of what it is a difference to."""


class UpdateFile(msgspec.Struct, frozen=True, kw_only=True):
    """An admitted update on disk."""

    peer: PeerId
    path: str
    codec: str
    base: str | None = None


class SketchMiddle(Job, frozen=True, kw_only=True, tag=True):
    """My gradient at the middle of two updates, on the trust split, as a sketch that another peer asked for."""

    mine: UpdateFile
    theirs: UpdateFile
    middle: tuple[Digest, Digest]
    """Of the two blobs."""


class CompareMiddle(Job, frozen=True, kw_only=True, tag=True):
    """Compare what another peer answered with my own gradient there."""

    mine: UpdateFile
    theirs: UpdateFile
    middle: tuple[Digest, Digest]
    answer: bytes


class CollaborateWith(Job, frozen=True, kw_only=True, tag=True):
    """Score, merge, guard, evaluate, write a checkpoint file."""

    round: Round
    updates: list[UpdateFile]
    products: dict[PeerId, float] = {}
    """Agreements since the last merge, of a trust scheme that asks neighbours."""


class AssembleFrom(Job, frozen=True, kw_only=True, tag=True):
    """Put a first adapter together of pieces, judge it, write a checkpoint file. Answer: Merged."""

    updates: list[UpdateFile]
    gates: dict[PeerId, str]
    """Path of what each answered; not inspected yet."""


class Generate(Job, frozen=True, kw_only=True, tag=True):
    """Continue a prompt with the base, own and personal model."""

    prompt: str
    max_tokens: int
    temperature: float
    seed: int


class Respond(Job, frozen=True, kw_only=True, tag=True):
    """One model goes on with a prompt, or answers in a chat, piece by piece."""

    which: Which
    prompt: str | None
    """None: `chat` is meant."""
    chat: tuple[ChatLine, ...]
    sampling: Sampling
    cuts: bool
    """Whether the beginning of what is too long is left out; else it is refused."""


class Cancel(Job, frozen=True, kw_only=True, tag=True):
    """Nobody waits any more for what the `Respond` of this id says. Has no answer of its own."""


class Export(Job, frozen=True, kw_only=True, tag=True):
    """Write one of the models in a form that other programs load."""

    folder: str
    which: Which = "served"
    format: ExportFormat = "peft"
    modelfile: bool = False
    expert: int | None = None


class EvaluateTest(Job, frozen=True, kw_only=True, tag=True):
    """Open the test split, for a report."""


class EvaluateText(Job, frozen=True, kw_only=True, tag=True):
    """Measure every model on a text, or on the own test split if no file is named."""

    files: list[str]
    max_tokens: int
    """Of a longer text a fixed choice of windows; 0: all of it."""


class Reread(Job, frozen=True, kw_only=True, tag=True):
    """Look at the user's documents again; answer with changed=False if nothing is different."""


class Close(Job, frozen=True, kw_only=True, tag=True):
    """Finish and leave."""


AnyJob = (
    Open
    | TrainSteps
    | Encode
    | AdmitUpdate
    | SketchMiddle
    | CompareMiddle
    | CollaborateWith
    | AssembleFrom
    | Generate
    | Export
    | EvaluateTest
    | EvaluateText
    | Reread
    | Close
)

Sent = AnyJob | Respond | Cancel
"""All that the worker is sent."""


class Answer(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """How a job ended, or how it goes."""

    id: int


class JobFailed(Answer, frozen=True, kw_only=True, tag=True):
    """The job failed and the worker lives on. `code` is the error's class, `hint` the next thing to type."""

    code: str
    message: str
    hint: str = ""


class JobProgress(Answer, frozen=True, kw_only=True, tag=True):
    """A job goes on: what it does, how far it is."""

    activity: str
    """A `status.WorkerNow` state, or what of a reading is done (`p2pfinetune.data.telling`)."""
    done: int
    total: int
    loss: float | None = None
    tokens: int = 0
    """Tokens processed since the job began."""
    trouble: str = ""
    """What the job waits for, such as a full disk; empty if it goes on."""
    planned: Planned | None = None
    """Told once, while the worker is opened."""


class Opened(Answer, frozen=True, kw_only=True, tag=True):
    """Ready."""

    network: Digest
    device: str
    max_blob_bytes: dict[str, int]
    restored: bool
    base_guard: float
    """Guard loss of the base model."""
    report: list[str]
    """Plain sentences about the documents: what was read, skipped and why, tokens a split."""
    text: TextNow = TextNow()
    """The same in figures."""
    fingerprint: str
    parameters: int
    adapter_parameters: int
    round: Round = Round(0)
    trained: bool = False
    best_guard: float | None = None
    """Of the restored checkpoint; measured again if the text has changed since."""
    steps: int = 0
    """Own optimizer steps so far, in all rounds."""
    pairing: float | None = None
    """The chance that a pair compares gradients in a round, 0 one in the number of peers; None: no such scheme."""
    precision: str = "fp32"
    """In which it trains."""
    traits: dict[str, Digest] = {}
    """`model` and `adapter` of `p2pfinetune.model.traits`."""
    other_sharings: tuple[Digest, ...] = ()
    """What `adapter` would be with another `--sharing`."""
    precision_why: str = ""
    """A phrase; empty if the user asked for it."""
    twin: str = ""
    """on | off: whether one trains beside."""
    twin_why: str = ""
    """Likewise a phrase."""
    notices: list[str] = []
    """What a person should know of the model, in whole sentences."""
    known_as: str = ""
    """What peers know the base model by."""
    licence: str = ""
    """Of the base model, as it is stated; empty if it is not."""
    gates: str = ""
    """Path of the own gates, if any are trained and were."""
    gate_bytes: int = 0
    """Of the largest valid gates of this network."""


class Stepped(Answer, frozen=True, kw_only=True, tag=True):
    """Own training done."""

    checkpoint: str
    """Path of the checkpoint file in scratch."""
    steps: int
    tokens: int
    loss_train: float


class Encoded(Answer, frozen=True, kw_only=True, tag=True):
    """The own update is in a file."""

    path: str
    size: int
    is_difference: bool = False
    """To the key frame that the job named."""
    epsilon: float | None = None
    """Of all noised updates, this one included; None: it has no noise."""
    gates: str = ""
    """Path of the gates of it, if any are trained."""


class Withheld(Answer, frozen=True, kw_only=True, tag=True):
    """Nothing was written: with this update all would exceed the budget."""

    epsilon: float


class Admitted(Answer, frozen=True, kw_only=True, tag=True):
    """The update may take part in a merge."""


class NotAdmitted(Answer, frozen=True, kw_only=True, tag=True):
    """It may not: a counted reason."""

    reason: str
    detail: str = ""


class Sketched(Answer, frozen=True, kw_only=True, tag=True):
    """Fp32 numbers, little-endian."""

    sketch: bytes


class MiddleWeighed(Answer, frozen=True, kw_only=True, tag=True):
    """What the two gradients say to the trust scheme."""

    product: float


class MiddleRefused(Answer, frozen=True, kw_only=True, tag=True):
    """What was answered is no sketch, or one of the updates no update any more: a counted reason."""

    reason: str


class Merged(Answer, frozen=True, kw_only=True, tag=True):
    """A round's mathematics is done."""

    checkpoint: str
    best: str | None
    """Path of the new best adapter in scratch, None if the best so far stays."""
    best_guard: float
    row: dict[PeerId, float]
    accepted: bool
    reason: str
    figures: RoundFigures
    served: Served = "personal"
    """Whose adapter a person is given from now on."""
    refused: dict[PeerId, str] = {}
    """Updates left out, with the reason: each was fine by itself, and odd beside the others."""
    copies: list[tuple[PeerId, PeerId]] = []
    """Pairs of which one copied the other, me included."""


class Generated(Answer, frozen=True, kw_only=True, tag=True):
    """Continuations of one prompt, by model."""

    base: str
    own: str
    personal: str
    served: str = ""
    """By the model that is served, the same as one of the others or one of its own."""
    served_by: Served = "personal"


class Spoken(Answer, frozen=True, kw_only=True, tag=True):
    """Of a `Respond` that goes on: what it says next."""

    said: Begun | Piece


class Responded(Answer, frozen=True, kw_only=True, tag=True):
    """It says no more."""

    ended: Ended


class Exported(Answer, frozen=True, kw_only=True, tag=True):
    """The folder is written."""

    files: list[str]
    which: Which = "personal"
    """The model that was exported."""
    bytes: int = 0
    """Of all files."""


class TestEvaluated(Answer, frozen=True, kw_only=True, tag=True):
    """Mean cross-entropy in nats a token on the test split, and how many tokens and documents it is over."""

    __test__ = False  # not a test class, whatever pytest thinks of the name

    base: float
    own: float
    personal: float
    twin: float | None
    served: float
    documents: int
    tokens: int


class TextEvaluated(Answer, frozen=True, kw_only=True, tag=True):
    """Every model on one text."""

    models: dict[str, ModelFigures]
    served_by: Served
    tokens: int
    """Measured, of `of_tokens`."""
    documents: int
    """Measured, of `of_documents`."""
    windows: int
    of_tokens: int
    of_documents: int
    known: dict[str, int] = {}
    """Documents of the text that stand in the own text, by split."""
    text: TextNow | None = None
    """What was read; None of the own test split."""


class ReadAgain(Answer, frozen=True, kw_only=True, tag=True):
    """What the documents look like now."""

    changed: bool
    fingerprint: str
    report: list[str] = []
    text: TextNow = TextNow()


class Closed(Answer, frozen=True, kw_only=True, tag=True):
    """Bye."""


AnyAnswer = (
    JobFailed
    | JobProgress
    | Opened
    | Stepped
    | Encoded
    | Withheld
    | Admitted
    | NotAdmitted
    | Sketched
    | MiddleWeighed
    | MiddleRefused
    | Merged
    | Generated
    | Spoken
    | Responded
    | Exported
    | TestEvaluated
    | TextEvaluated
    | ReadAgain
    | Closed
)
