"""What of text is learnt, and what stands before it."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from p2pfinetune.names import Loss
from p2pfinetune.options.sections import Section

MAX_PROFILE = 1000  # characters: a few lines


class ConversationOptions(Section):
    """What is learnt of conversations; other text is always learnt as a whole."""

    loss: Annotated[
        Loss, Meta(description="What of conversations is learnt and measured: answers, or all that is said.")
    ] = "answers"


class ProfileOptions(Section):
    """What the model is told of the user."""

    profile: Annotated[
        str,
        Meta(
            max_length=MAX_PROFILE,
            description="A line about you that stands in front of all your text in training and of every prompt, and "
            "is not learnt itself; at most a quarter of --context. It stays on this device. Empty: none.",
        ),
    ] = ""
