"""Options of pieces: who gives gates away, and how a newcomer chooses. See `p2pfinetune.round.pieces`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, field

from p2pfinetune.errors import OptionError
from p2pfinetune.options.sections import Section, check

MANY = 10**9  # as of the other options: far beyond use, and what every file and message can hold


class GateOptions(Section):
    """Whether an adapter can be taken to pieces by newcomers. No peer needs to know it: docs/how-to/assemble.md."""

    gate_steps: Annotated[
        int,
        Meta(
            ge=0,
            le=MANY,
            description="Steps a round that train the gates by which newcomers find pieces of the adapter. 0: none are "
            "trained or given away.",
        ),
    ] = 0
    gate_lr: Annotated[float, Meta(gt=0, le=MANY, description="Learning rate of the gates.")] = 2e-5


class AssemblyOptions(Section):
    """How a newcomer chooses pieces; see `round.pieces`. Faithful to Per-Pcs (arXiv 2406.10471) unless told."""

    top_k: Annotated[int, Meta(ge=1, le=MANY, description="Pieces a layer.")] = 1
    temperature: Annotated[float, Meta(gt=0, le=MANY, description="Of the softmax over their scores.")] = 1.0
    documents: Annotated[int, Meta(ge=1, le=MANY, description="Of the own train split, the last so many.")] = 50
    tokens: Annotated[int, Meta(ge=1, le=MANY, description="Most tokens of these.")] = 4096
    mix: Annotated[
        Literal["factors", "products"], Meta(description="What is summed: A and B by themselves, or the products BA.")
    ] = "factors"
    choose: Annotated[
        Literal["scores", "loss"], Meta(description="By gates, or by the loss on the trust split, layer by layer.")
    ] = "scores"

    def __post_init__(self) -> None:
        check(self)


def assembly_options(given: Mapping[str, Any]) -> AssemblyOptions:
    """OptionError that names the option and what there is."""
    try:
        return msgspec.convert(dict(given), AssemblyOptions)
    except msgspec.ValidationError as error:
        known = ", ".join(AssemblyOptions.__struct_fields__)
        raise OptionError(f"assembling pieces: {error}", f"its options are: {known}") from error


WHOLE = ("both", "b")  # sharings of which an update and the seeded start make all of a layer


def must_share_pieces(sharing: str) -> None:
    """OptionError where a neighbour's factors are no piece: half of a product means nothing without the other half."""
    if sharing not in WHOLE:
        raise OptionError(
            f"with sharing {sharing} an update does not hold all of a layer, and half of one is no piece of it",
            "assemble in a network of --sharing both",
        )


class NewcomerOptions(Section):
    """What the first model of a newcomer is made of."""

    assemble_options: Annotated[dict[str, Any], Meta(description="How pieces are chosen.")] = field(
        default_factory=dict
    )
