"""Errors that are ours or our user's; what a peer does wrong is a `names.Refusal`, never an exception.

LearningError
+-- ModelError        a base model cannot be found, loaded or adapted
+-- TextError         the user's documents cannot be used
|   +-- TooLittleText
+-- OptionError       a plug-in name or option that does not exist or is out of range
|   +-- PromptTooLong
+-- CheckpointError   saved training state does not fit what it is loaded into
+-- ExportError       an adapter cannot be written in that format, or there
+-- RunError          a folder does not hold the simulation that it is read or continued as
+-- ClusterError      the machines of a cluster cannot be had, or were lost
"""

from __future__ import annotations

import textwrap

import msgspec

UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""All that msgspec raises for bytes that are not what was expected: text that is no UTF-8 and deep nesting, too."""


def in_a_line(error: BaseException) -> str:
    """What an error of a library says, in one line of no more than 300 characters; its kind if it says nothing."""
    return textwrap.shorten(str(error).strip().split("\n")[0], 300, placeholder=" …") or type(error).__name__


class LearningError(Exception):
    """Something the library needs from its user is missing or wrong; the message says what, and `hint` what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ModelError(LearningError):
    """The base model cannot be used."""


class TextError(LearningError):
    """The documents given cannot be used."""


class TooLittleText(TextError):
    """The documents hold too little text to train, trust, guard and test on."""


class OptionError(LearningError):
    """A plug-in name or option that does not exist or is out of range."""


class PromptTooLong(OptionError):
    """A prompt has more tokens than the model looks at."""


class CheckpointError(LearningError):
    """Saved training state that does not fit the model, data or options it is loaded into."""


class ExportError(LearningError):
    """What was learnt cannot be written in the format, or in the place, that was asked for."""


class RunError(LearningError):
    """A folder does not hold the simulation that it is read or continued as."""


class ClusterError(LearningError):
    """The machines of a cluster cannot be had, or were lost while they worked."""
