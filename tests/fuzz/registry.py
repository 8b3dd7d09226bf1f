"""All targets by name."""

from __future__ import annotations

from tests.fuzz import coded_updates, control, echoes, formats, ggufs, gossip, local, messages, pipe, protocols, updates
from tests.fuzz.target import Target

MODULES = (messages, updates, coded_updates, protocols, echoes, gossip, pipe, local, ggufs, formats, control)
TARGETS: dict[str, Target] = {target.name: target for module in MODULES for target in module.TARGETS}
