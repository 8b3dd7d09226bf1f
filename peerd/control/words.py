"""What the state means, in sentences a person understands, with the next thing to type. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from p2pfinetune.data.report import UNKNOWN
from p2pfinetune.names import PeerId
from p2pfinetune.scoring.perplexity import MAX_PERPLEXITY
from peerd.control import figures
from peerd.control.answers import DataLooked, ExampleShown, FileFate
from peerd.control.peer_names import title
from peerd.control.render import printable, share, some
from peerd.status import NeighbourNow, Status, TextNow

HOW_MARKED = "What is read and not learnt is dim at a terminal, and between \u27ea and \u27eb elsewhere."
NAMED = 3  # files that another one is said to be like
WORTH_SAYING = 0.001  # perplexities nearer than this share of one another are called equal
WHOLE_PERCENTS = 0.1  # from here on nobody needs a decimal


def headline(status: Status) -> str:
    """The daemon's own sentence; it always says something."""
    return status.sentence or f"{status.state}, round {status.round}"


def verdict(status: Status) -> str:
    """Is my model getting better? Empty while nothing is measured."""
    now = status.perplexity
    if now.personal is None or now.base is None:
        return ""
    if now.personal >= MAX_PERPLEXITY:
        return "The model has diverged: it predicts your own held-out text worse than chance."
    if status.worth.sentence:
        return status.worth.sentence
    if (found := status.held_out.guard) is not None and found.against_base is not None:
        return figures.sentence(found)
    parts = [f"{_compared(now.personal, now.base)} the base model's"]
    if now.twin is not None:
        parts.append(f"{_compared(now.personal, now.twin)} that of the twin that trains alone")
    return f"On your own held-out text its perplexity is {' and '.join(parts)}."


def served(status: Status) -> str:
    """Which model `generate` and `export` give, if that is not the personal one; else empty."""
    return {
        "personal": "",
        "best": "It ended behind the twin that trains alone: generate and export give what it was at its best.",
        "local": "The twin that trains alone is ahead: generate and export give the twin, as it was at its best.",
        "mixture": "generate gives a mixture of the predictions of the personal model and of those it trusts most; no"
        " export can hold that, and export gives the adapter that is best by itself.",
    }[status.served]


def twin(status: Status) -> str:
    """Whether one trains beside, why, and how to have one; empty while nothing is known."""
    worker = status.worker
    why = f" ({worker.twin_why})" if worker.twin_why else ""
    if worker.twin == "off":
        how = "to have one, before the first merge is kept or in a new home: peerd stop && peerd start --twin on"
        return f"none trains{why}, so nothing is measured against training alone; {how}"
    return f"trains beside{why}" if worker.twin else ""


def advice(status: Status) -> list[str]:
    """What a person should do now; nothing if all is well."""
    asked = list(status.health.reasons)
    if not (status.neighbours or status.looking or asked) and status.state not in {"starting", "stopping"}:
        asked.append(
            "To find peers, type: peerd stop && peerd start --bootstrap MULTIADDR   "
            "(or --peer MULTIADDR, or --lan to look on this network)"
        )
    return asked


def refusals(counts: Mapping[str, int]) -> str:
    """How often what was refused; empty if nothing was."""
    return ", ".join(f"{printable(reason)} {count}" for reason, count in sorted(counts.items()))


def text_used(now: TextNow) -> str:
    """How much of the data is trained on."""
    return f"{some(now.documents, 'document')} from {some(now.files, 'file')}, {some(now.characters, 'character')}"


def fate(file: FileFate) -> str:
    """What became of one file, in one line."""
    left_out = f"left out of it: {refusals(file.left_out)}" if file.left_out else ""
    if file.reason:
        maybe = f"; it may be {' or '.join(file.guesses)}: --encoding PATH=NAME" if file.guesses else ""
        of = f" of {_named(file.equal_to)}" if file.equal_to else ""
        why = f"{printable(file.reason)}{of}{maybe if file.reason == UNKNOWN else ''}"
        return f"left out  {printable(file.path)}: {why}"
    guessed = " (guessed)" if file.guesses else ""
    parts = [
        f"{some(file.documents, 'document')}, {some(file.tokens, 'token')}"
        + (f", {file.encoding}{guessed}" if file.encoding else ""),
        _talks(file.conversations, file.documents),
        f"{some(file.replaced, 'character')} unreadable" if file.replaced else "",
        f"{some(file.near_copies, 'document')} near copies of others" if file.near_copies else "",
        f"{some(file.repeated, 'document')} read before" if file.repeated else "",
        f"{some(file.bad_rows, 'row')} not understood" if file.bad_rows else "",
        left_out,
        f"equal to some of {_named(file.equal_to)}" if file.equal_to else "",
        f"like {_named(file.near_to)}" if file.near_to else "",
        refusals(file.splits),
    ]
    return f"used      {printable(file.path)}: " + "; ".join(part for part in parts if part)


def _named(files: Sequence[str]) -> str:
    """The first few of them."""
    rest = len(files) - NAMED
    return ", ".join(map(printable, files[:NAMED])) + (" and others" if rest > 0 else "")


def dealing(found: DataLooked) -> list[str]:
    """How the text is divided, and how sure that is."""
    tokens = ", ".join(f"{split} {count:,}" for split, count in found.tokens.items())
    said = [f"Tokens by {printable(found.model)}: {tokens}."]
    if found.text.conversations:
        learnt = "loss on answers" if found.loss == "answers" else "loss on all that is said"
        said.insert(0, f"{some(found.text.conversations, 'conversation')}, {learnt}.")
    if not found.has_home:
        said.append("The splits are about so large; which documents are held out is decided by the first start.")
    elif found.new:
        new = some(found.new, "document")
        said.append(f"{new} not read by the daemon yet: the next reading would deal them so.")
    return [*said, f"Not enough to start: {printable(found.lacking)}."] if found.lacking else said


def _talks(conversations: int, documents: int) -> str:
    return (
        ""
        if not conversations
        else "conversations"
        if conversations == documents
        else f"{conversations:,} conversations"
    )


def heading(example: ExampleShown) -> str:
    """Over a document that is shown."""
    learnt = "" if example.learnt == example.tokens else f", {example.learnt:,} of them learnt"
    return f"--- {printable(example.source)}: {example.split}, {some(example.tokens, 'token')}{learnt}"


def text_not_used(now: TextNow) -> list[str]:
    """What of the data is not trained on, a sentence a kind; nothing if all of it is."""
    said = []
    if now.skipped:
        said.append(f"Files and folders left out: {refusals(now.skipped)}.")
    if UNKNOWN in now.skipped:
        said.append("What they may be in: peerd data. To name it: peerd start --encoding PATH=NAME.")
    if now.left_out:
        said.append(f"Characters left out of files: {refusals(now.left_out)}.")
    if now.repeated:
        said.append(f"{some(now.repeated, 'document')} left out: read before.")
    if now.bad_rows:
        said.append(f"{some(now.bad_rows, 'row')} left out: no JSON, or neither a conversation nor text.")
    if now.refused:
        said.append(
            f"{some(now.refused, 'conversation')} left out: the model's chat template has no place for them; "
            "peerd data --show N shows what it makes of others."
        )
    if now.replaced:
        said.append(f"{some(now.replaced, 'character')} could not be read in the encoding of their file.")
    if now.copies_left_out:
        copies = some(now.copies_left_out, "document")
        said.append(f"{copies} left out: near copies of some that are trained on and of some that are held out.")
    return said


def copied(copy_of: PeerId | None, names: Mapping[PeerId, str]) -> str:
    """Whose copy an update was; empty if it was none. `names` are those of `peer_names`."""
    return f"copy of {names.get(copy_of) or title('', copy_of)}" if copy_of is not None else ""


def note(peer: NeighbourNow, names: Mapping[PeerId, str]) -> str:
    """What is odd about a peer; empty if nothing is."""
    odd = (
        "" if peer.standing == "good" else printable(peer.standing),
        f"{share(peer.refused_trust)} in a merge that was not taken" if peer.refused_trust > 0.0 else "",
        copied(peer.copy_of, names),
    )
    return ", ".join(part for part in odd if part)


def _compared(mine: float, other: float) -> str:
    change = (mine - other) / other if other else 0.0
    if abs(change) < WORTH_SAYING:
        return "equal to"
    percents = f"{abs(change):.0%}" if abs(change) >= WHOLE_PERCENTS else f"{abs(change):.1%}"
    return f"{percents.replace('%', ' %')} {'below' if change < 0 else 'ABOVE'}"
