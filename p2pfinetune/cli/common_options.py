"""The options that both commands have."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from p2pfinetune.options import CollaborationOptions
from p2pfinetune.options.sections import typed


class EngineName(StrEnum):
    """What carries simulations out."""

    LOCAL = "local"
    RAY = "ray"


Engine = Annotated[EngineName, typer.Option("--engine", help="This machine, or a Ray cluster (the extra 'ray').")]
RayAddress = Annotated[
    str,
    typer.Option(
        "--ray-address", metavar="ADDRESS", help="A running cluster, or 'auto'. Default: one started for this command."
    ),
]
MaxShare = Annotated[float | None, typer.Option("--max-share", **typed(CollaborationOptions, "max_share"))]
Fresh = Annotated[bool, typer.Option("--fresh", help="Begin anew, overwriting what lies in the folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
