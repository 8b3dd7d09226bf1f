"""All targets by name."""

from __future__ import annotations

from tests.fuzz import control, echoes, ggufs, gossip, local, messages, pipe, protocols, updates
from tests.fuzz.target import Target

MODULES = (messages, updates, protocols, echoes, gossip, pipe, local, ggufs, control)
TARGETS: dict[str, Target] = {target.name: target for module in MODULES for target in module.TARGETS}
