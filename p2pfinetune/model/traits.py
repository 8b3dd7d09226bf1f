"""What the network digest is made of, in two parts that people can act upon: which model, and how it is adapted.

The digest says whether two peers may mix, and not what differs if they may not. These do; the group is the third. They
are digests themselves, since a model's name or an option is nobody's business who is not of the network.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from p2pfinetune.model.base import Base
from p2pfinetune.model.fingerprints import canonical_json
from p2pfinetune.names import SHARINGS, Digest, Sharing
from p2pfinetune.options import AdapterSpec


def network_traits(base: Base, spec: AdapterSpec, targets: Sequence[str]) -> Mapping[str, Digest]:
    """`model` and `adapter`: equal if two peers agree on all that these words stand for."""
    model = [base.tensors_digest, base.tokenizer_digest, base.config_digest]
    return {"model": _digest(model), "adapter": _adapter(spec, targets, spec.sharing)}


def other_sharings(spec: AdapterSpec, targets: Sequence[str]) -> tuple[Digest, ...]:
    """`adapter` of those who have all of this but the sharing."""
    return tuple(_adapter(spec, targets, other) for other in SHARINGS if other != spec.sharing)


def _adapter(spec: AdapterSpec, targets: Sequence[str], sharing: Sharing) -> Digest:
    several = [spec.generalists] if spec.generalists > 1 else []
    return _digest([sorted(targets), spec.rank, spec.alpha, sharing, *several])


def _digest(meaning: object) -> Digest:
    return Digest(hashlib.sha256(canonical_json(meaning)).hexdigest())
