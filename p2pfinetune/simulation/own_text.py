"""A population of peers whose text is in folders that the config names, split as the daemon splits a user's text.

The salt is the seed and the peer's name, so that another seed holds out other documents and a run can be repeated. The
cache of tokens is thrown away: a simulation reads its text once.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from p2pfinetune.data.corpus import prepare
from p2pfinetune.data.population import Population
from p2pfinetune.model.base import Base
from p2pfinetune.names import PeerId
from p2pfinetune.simulation.config import SimulationConfig


def population_from_folders(config: SimulationConfig, base: Base) -> Population:
    """Raises TextError, or TooLittleText saying how much is needed."""
    with tempfile.TemporaryDirectory() as cache:
        texts = {
            PeerId(peer.name): prepare(
                [Path(path) for path in peer.data],
                base.tokenizer,
                tokenizer_digest=base.tokenizer_digest,
                cache=Path(cache),
                context=config.training.context,
                salt=f"{config.seed} {peer.name}",
                loss=config.loss,
            )
            for peer in config.peers
        }
    categories = tuple(str(number) for number in range(len(config.peers[0].shares)))
    shares = {PeerId(peer.name): peer.shares for peer in config.peers if peer.shares}
    return Population(texts, categories, shares)
