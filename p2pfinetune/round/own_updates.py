"""Own updates as bytes: as key frames, or as what lies between a key frame that others hold and where training is now.

A codec that tells steps (`codec.replay`) needs them from the trainer, and the trainer can tell them only from a mark.
So with every key frame a mark is set, and which key frame that was is kept here, in memory alone: after a restart there
is no mark, and the next update is a key frame, which is one blob more.

What is hidden by noise is never told as steps: whoever replayed them would have the adapter without the noise.
"""

from __future__ import annotations

import hashlib

from p2pfinetune.codec import CODECS
from p2pfinetune.mezo.steps import StepList
from p2pfinetune.model.adapter import AdaptedModel, Adapter
from p2pfinetune.round.update import Hide, KeyFrame, Written, told, written
from p2pfinetune.training.portion_trainer import portion_of
from p2pfinetune.training.trainer import Trainer


class OwnUpdates:
    """Of one learner."""

    def __init__(self, adapted: AdaptedModel) -> None:
        self._adapted = adapted
        self._digest = b""
        """Of the key frame that was written at the mark."""
        self._at: Adapter | None = None
        """Where the trainer was."""

    def key_frame(self, trainer: Trainer, codec: str, hide: Hide | None) -> bytes:
        """Where the trainer is, told by itself; no mark is set."""
        return self._written(trainer, codec, None, hide, None).blob

    def write(self, trainer: Trainer, codec: str, key: KeyFrame | None, hide: Hide | None) -> Written:
        """The same, or how it differs from a key frame of this codec, if the codec can and that is worth it."""
        said = self._written(trainer, codec, key, hide, None if hide is not None else self._steps(trainer, key))
        if not said.is_difference:
            self._digest, self._at = hashlib.sha256(said.blob).digest(), trainer.adapter
            trainer.mark()
        return said

    def _steps(self, trainer: Trainer, key: KeyFrame | None) -> StepList | None:
        """From that key frame, if nothing but steps lies between."""
        if key is None or self._at is None or hashlib.sha256(key.blob).digest() != self._digest:
            return None
        return trainer.steps_since(self._at)

    def _written(
        self, trainer: Trainer, codec: str, key: KeyFrame | None, hide: Hide | None, steps: StepList | None
    ) -> Written:
        portion, adapted = portion_of(trainer), self._adapted
        delta = told(trainer.adapter, adapted.initial, hide, adapted.spec, portion)
        return written(delta, CODECS.make(codec), adapted.shared_schema, key, portion, steps)
