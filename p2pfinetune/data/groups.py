"""Which documents of a collection belong together: near copies, replies that quote, versions of one text. Pure.

Documents are asked from the longest to the shortest, and each joins the group that holds most of it, if that is over
MOST_SHARED of what the document has of its own. So an excerpt goes to its text, and a short phrase that stands in two
texts joins one of them and never the two with one another.

What stands in more than COMMON groups is nobody's own: a signature, a disclaimer, the head of a licence. It links
nothing, or all mails with one disclaimer were one group. Groups are counted and not documents, because twenty versions
of one essay are one text and no boilerplate: `common` first groups those that hold hardly anything but what is frequent
by all that they hold, and the others by the rest, and then counts.

The longest first, since a group is then named by the text that holds most, and every later one asks about containment
in something at least as long. One pass, no iteration: the outcome does not depend on the order of files.

Everything is done on arrays of (sequence, document) that are sorted once. Sequences of a single document are dropped
from them at once: they are counted as its own and can link nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from p2pfinetune.data.near_duplicates import MOST_SHARED, Sequences

COMMON = 10  # groups; more hold a sequence only if it is boilerplate or a turn of phrase
LEAST_OWN = 0.3  # of a document's sequences: with less it is told from others by next to nothing

AT_ONCE = 1 << 20  # sequences that are looked up together

Numbers = NDArray[np.int64]
Marks = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Shared:
    """Sequences that stand in several documents: row i says that `sequence[i]` stands in `document[i]`.

    Rows are sorted by document, then by sequence; sequences are numbered from 0, documents as they were given.
    """

    sequence: Numbers
    document: Numbers
    edges: Numbers
    """Rows `edges[d]` to `edges[d + 1]` are those of document d."""
    values: Sequences
    """Of each numbered sequence, sorted."""
    sizes: Numbers
    """Sequences of each document, those that it shares with nobody included."""

    @staticmethod
    def of(found: Sequence[Sequences]) -> Shared:
        """Of documents by their sequences."""
        sizes = np.fromiter(map(len, found), np.int64, len(found))
        every = np.concatenate([*found, np.empty(0, np.uint64)])
        ordered = np.sort(every)
        again = ordered[1:][ordered[1:] == ordered[:-1]]
        values = again[np.append(True, again[1:] != again[:-1])[: len(again)]]
        del ordered, again
        parts = [_numbered(values, every, begin) for begin in range(0, len(every), AT_ONCE)]
        sequence, places = np.column_stack([*parts, np.empty((2, 0), np.int64)])
        document = np.searchsorted(np.cumsum(sizes), places, "right")
        edges = np.searchsorted(document, np.arange(len(found) + 1))
        return Shared(sequence, document, edges, values, sizes)

    def rows(self, document: int) -> slice:
        """Those of one document."""
        return slice(int(self.edges[document]), int(self.edges[document + 1]))

    def own(self, common: Marks) -> Numbers:
        """How many sequences of each document are not common."""
        return self.sizes - np.bincount(self.document[common[self.sequence]], minlength=len(self.sizes))


def group(shared: Shared, common: Marks) -> Numbers:
    """A label for each document, equal within a group: the number of its longest document."""
    return _grouped(shared, ~common[shared.sequence], shared.own(common))


def common(shared: Shared) -> Marks:
    """Which of the sequences are boilerplate."""
    frequent = np.bincount(shared.sequence, minlength=len(shared.values)) > COMMON
    own = shared.own(frequent)
    hardly = own < LEAST_OWN * shared.sizes
    is_hardly = hardly[shared.document]
    copies = _grouped(shared, is_hardly, shared.sizes)
    others = _grouped(shared, ~is_hardly & ~frequent[shared.sequence], own)
    labels = np.where(hardly, copies, others)
    pairs = np.unique(_packed(shared.sequence, labels[shared.document]))
    return np.bincount((pairs >> np.uint64(32)).astype(np.int64), minlength=len(shared.values)) > COMMON


def _grouped(shared: Shared, counted: Marks, own: Numbers) -> Numbers:
    """By the counted rows alone; `own` is what each document's share is taken of."""
    labels = np.arange(len(shared.sizes))
    owners = np.full(len(shared.values), -1)  # the group that had each sequence first
    sequence, document = shared.sequence[counted], shared.document[counted]
    edges = np.searchsorted(document, np.arange(len(labels) + 1))
    some = np.flatnonzero(np.diff(edges))
    for one in some[np.lexsort([some, -shared.sizes[some]])].tolist():
        mine = sequence[edges[one] : edges[one + 1]]
        held = owners[mine]
        known = held >= 0
        if known.any():
            groups, counts = np.unique(held[known], return_counts=True)
            best = int(counts.argmax())
            if counts[best] > MOST_SHARED * own[one]:
                labels[one] = groups[best]
        owners[mine[~known]] = labels[one]
    return labels


def _numbered(values: Sequences, every: Sequences, begin: int) -> Numbers:
    """Which of the values some of every sequence are, and where those stand that are one: (2, so many)."""
    some = every[begin : begin + AT_ONCE]
    numbers = np.searchsorted(values, some)
    hits = np.flatnonzero(np.append(values, np.uint64(0))[numbers] == some)
    hits = hits[numbers[hits] < len(values)]
    return np.stack([numbers[hits], begin + hits])


def _packed(high: Numbers, low: Numbers) -> NDArray[np.uint64]:
    return (high.astype(np.uint64) << np.uint64(32)) | low.astype(np.uint64)
