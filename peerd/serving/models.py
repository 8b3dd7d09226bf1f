"""Which models there are for a client, by name, and what is said of each."""

from __future__ import annotations

import hashlib
import time
from typing import NamedTuple

from p2pfinetune.nano import about_model
from peerd.control.questions import Model
from peerd.errors import UsageError
from peerd.status import Status

LATEST = ":latest"  # Ollama's clients add it to every name
OFFERED: dict[Model, str] = {
    "personal": "the base with what it learnt here and from peers",
    "own": "the base with what it learnt here since the last merge",
    "base": "the base as it was",
}
ALSO: dict[Model, str] = {
    "twin": "the base with what it learnt here alone",
    "served": "what `peerd generate` gives: the personal one, or the twin's while that is ahead",
}


class UnknownModel(UsageError):
    """There is no model of that name."""


class Offered(NamedTuple):
    """One model, as it is now."""

    name: Model
    says: str
    digest: str
    """Of what it is: it changes with the base, and of the others with every round."""
    since: float
    """Unix time."""


def model_of(name: str) -> Model:
    """Raises UnknownModel, which names those that there are."""
    bare = name.strip().lower().removesuffix(LATEST)
    if bare not in {*OFFERED, *ALSO}:
        raise UnknownModel(f"the model '{name[:60]}' does not exist here: there is {', '.join(OFFERED)}")
    return bare


def offered(now: Status) -> list[Offered]:
    """The personal one first, since it is what all this is for."""
    names = dict(OFFERED)
    if now.worker.twin == "on":
        names["twin"] = ALSO["twin"]
    begun = time.time() - now.uptime_seconds
    return [Offered(name, _says(says, now), _digest(name, now), begun) for name, says in names.items()]


def _says(says: str, now: Status) -> str:
    """With what the base is, if it is none to talk to."""
    return ". ".join(filter(None, (f"{says} ({now.model})", about_model(now.model))))


def _digest(name: Model, now: Status) -> str:
    round_ = 0 if name == "base" else now.round
    return hashlib.sha256(f"{now.network} {now.model} {name} {round_}".encode()).hexdigest()
