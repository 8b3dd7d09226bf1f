"""A profile as context: the same few tokens in front of every sequence that is trained on, measured, or gone on with.

One adapter shared by all, and each user's id or a line about them in front of their text, so that the model can tell
one from another: the cheapest personalisation there is, known as One4All (Wozniak et al. 2024, arXiv 2402.09269, with
user ids; the survey arXiv 2502.11528 has the name). Here it is an option of a peer, for the devices of a family or of
one user, beside everything else: no peer is told the profile, and no network asks for one.

The profile itself is never learnt: nothing is predicted of it, in training and in measuring alike. It takes its tokens
from the context of each sequence, a quarter of it at most, and text has what is left.

For a base with a chat template it is what that template makes of a lone system line; for others, and for templates that
have none, it is the text and an empty line. Where a template writes a system line of its own into every chat, that one
follows: a chat is learnt behind the very same tokens.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from p2pfinetune.data.chats.marking import system_ids
from p2pfinetune.data.corpus import Corpus
from p2pfinetune.data.splits import SPLITS
from p2pfinetune.data.tokens import beginning, plain_ids
from p2pfinetune.errors import OptionError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MOST_OF_CONTEXT = 4  # one part in so many


def profile_ids(profile: str, tokenizer: PreTrainedTokenizerBase, context: int) -> tuple[int, ...]:
    """What stands in front; nothing for no profile. OptionError if it takes too much of the context."""
    text = profile.strip()
    if not text:
        return ()
    ids = system_ids(tokenizer, text) or [*beginning(tokenizer), *plain_ids([f"{text}\n\n"], tokenizer)[0]]
    most = context // MOST_OF_CONTEXT
    if len(ids) > most:
        raise OptionError(
            f"the profile takes {len(ids)} tokens of each sequence, and of {context} at most {most} are for it",
            "shorten --profile, or raise --context",
        )
    return tuple(ids)


def behind_profile(corpus: Corpus, front: tuple[int, ...]) -> Corpus:
    """The same text behind these ids, under a fingerprint of its own: losses behind another front are others."""
    if not front:
        return corpus
    digest = hashlib.sha256(repr(front).encode()).hexdigest()[:16]
    splits: dict[str, Any] = {name: replace(corpus.split(name), front=front) for name in SPLITS}
    return replace(corpus, **splits, fingerprint=f"{corpus.fingerprint} behind {digest}")
