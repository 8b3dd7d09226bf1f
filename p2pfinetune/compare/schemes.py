"""The schemes that a comparison knows, each as a change to one simulation config. Nothing else differs between them.

Baselines and the paper's schemes run without the guard, as the paper has them: a guard would hide how bad a merge was.
"default" is what the daemon does unless told otherwise, and the "-guarded" ones show what the guard adds by itself.
Those of `NEIGHBOURS` are the methods that are read beside the paper, each with what its own paper varies and with the
same guard as `default` if it merges personal models; docs/which-option.md says what each is.
Ditto (Li et al. 2021, arXiv 2012.04221) trains a second model pulled towards the merged one; the "faithful" ones are
the paper's forms with an A of its own at every client, as its code draws it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from p2pfinetune.errors import OptionError
from p2pfinetune.options import TrainerOptions
from p2pfinetune.simulation.config import SimulationConfig
from p2pfinetune.simulation.topology import Topology

Change = Mapping[str, Any]

PARTS = ("adapter", "training")  # of a config: what is not named of them in a change stays
DITTO_PULL = 0.1  # lambda of Ditto (Li et al., 2021); a round number, not tuned
TOP_K = 3  # of the paper's code, the own adapter counted
STACKED = 0.9  # of the energy of the stacked factors


def _unguarded(trust: str, /, **options: Any) -> dict[str, Any]:
    """As in the paper, which takes every merge."""
    return {"trust": trust, "trust_options": options, "guarded": False}


def _faithful(trust: str, /, **options: Any) -> dict[str, Any]:
    """The paper's own form, each client with an A of its own as in its code."""
    return {**_unguarded(trust, **options), "adapter": {"shared_start": False}}


def _adapter(change: Change, /, **options: Any) -> dict[str, Any]:
    """The same with another adapter; what the config says of it stays otherwise."""
    return {**change, "adapter": options}


def _experts(change: Change, /, specialists: int = 0, generalists: int = 1) -> dict[str, Any]:
    """Generalists and specialists, with routers in the authors' ratio of steps; their turns are 30 and 10."""
    return {
        **_adapter(change, sharing="generalist", own_specialists=(specialists,), generalists=generalists),
        "training": {"router_every": 6, "router_steps": 2},
    }


ALONE: Change = {**_unguarded("local"), "merge_until": 0.0}
"""Nobody is heard."""
TRUSTED: Change = {"guarded": True, "public_reference": False}
"""The daemon's own trust and guard."""
OWN_RANKS = (2, 4, 8)  # dealt to the peers in turn: three strengths of device in one network

MEZO = TrainerOptions(trainer="mezo")
HALVES = (MEZO, TrainerOptions())
"""Dealt to the peers in turn: every other one trains without gradients, the others by AdamW."""

_RING, _STAR = Topology(kind="ring"), Topology(kind="full-star")

SCHEMES: Mapping[str, Change] = MappingProxyType(
    {
        "local": ALONE,
        "fedavg": _unguarded("uniform"),
        "theoretical": _unguarded("oracle"),
        "weight-similarity": _unguarded("weight-similarity"),
        "validation": _unguarded("validation"),
        "prediction-similarity": _unguarded("prediction-similarity"),
        "first-order": _unguarded("first-order"),
        "mixture": _unguarded("mixture"),
        "cobo": _unguarded("cobo"),  # arXiv 2409.05539, weights on the simplex as in its language experiment
        "cobo-box": _unguarded("cobo", domain="box"),  # and each from 0 to 1, as in its others
        "default": TRUSTED,  # whatever the daemon does unless told otherwise
        "default-mixture": {**TRUSTED, "serve": "mixture"},  # the same training, and what is served may be a mixture
        "validation-guarded": {"trust": "validation", "guarded": True},
        "fedavg-guarded": {"trust": "uniform", "guarded": True},
        "local-faithful": {**_faithful("local"), "merge_until": 0.0},
        "fedavg-faithful": _faithful("uniform"),
        "theoretical-faithful": _faithful("oracle"),
        "weight-similarity-faithful": _faithful("weight-similarity", faithful=True),
        "validation-faithful": _faithful("validation", faithful=True),
        "prediction-similarity-faithful": _faithful("prediction-similarity", faithful=True),
        "fedavg-then-local-50": {**_unguarded("uniform"), "merge_until": 0.5},
        "fedavg-then-local-75": {**_unguarded("uniform"), "merge_until": 0.75},
        "fedavg-then-local-90": {**_unguarded("uniform"), "merge_until": 0.9},
        "ditto": {**_unguarded("uniform"), "twin": True, "twin_pull": DITTO_PULL},
        "validation-top-k": _unguarded("validation", top_k=TOP_K),
        "validation-threshold": _unguarded("validation", threshold=-2.0),
        "prediction-similarity-top-k": _unguarded("prediction-similarity", top_k=TOP_K),
        "weight-similarity-top-k": _unguarded("weight-similarity", top_k=TOP_K),
        "fedavg-ring": {**_unguarded("uniform"), "topology": _RING},
        "validation-ring": {**_unguarded("validation"), "topology": _RING},
        "mixture-ring": {**_unguarded("mixture"), "topology": _RING},
        # sharers train alone; then every peer is the newcomer in turn, assembles, and trains as long as they did
        "per-pcs": {**ALONE, "gate_steps": 5, "newcomers": True},
        "per-pcs-by-loss": {
            "trust": "local",
            "merge_until": 0.0,
            "gate_steps": 5,
            "newcomers": True,
            "assemble_options": {"choose": "loss"},
        },
        "fedavg-star": {**_unguarded("uniform"), "topology": _STAR},
        "validation-star": {**_unguarded("validation"), "topology": _STAR},
        "mixture-star": {**_unguarded("mixture"), "topology": _STAR},
        # which factors are shared, and how they are merged, all by the same weights
        "fedsa": _adapter(_unguarded("uniform"), sharing="a"),  # arXiv 2410.01463
        "ffa": _adapter(_unguarded("uniform"), sharing="b"),  # arXiv 2403.12313
        "core-svd": {**_unguarded("uniform"), "merge": "core-svd"},  # FLoRIST, arXiv 2506.09199
        "stack": {**_unguarded("uniform"), "merge": "core-svd", "merge_options": {"energy": STACKED}},  # FLoRA, cut
        "rolora": _adapter(_unguarded("uniform"), sharing="alternate"),  # arXiv 2502.01755
        # three strengths of device
        "own-rank-alone": _adapter(ALONE, own_ranks=OWN_RANKS),
        "own-rank": _adapter(_unguarded("uniform"), own_ranks=OWN_RANKS),
        "hetlora": _adapter(_unguarded("product-norm"), own_ranks=OWN_RANKS),  # arXiv 2401.06432
        "flexlora": {**_adapter(_unguarded("uniform"), own_ranks=OWN_RANKS), "merge": "core-svd"},  # arXiv 2402.11505
        "one4all": {**_unguarded("uniform"), "named": True},  # arXiv 2402.09269: one adapter, told who speaks
        # several adapters in a layer
        "comigs-1g1s": _experts(_unguarded("uniform"), specialists=1),  # CoMiGS, arXiv 2409.13931
        "comigs-2s": _experts(ALONE, specialists=1),  # both stay at home
        "comigs-2g": _experts(_unguarded("uniform"), generalists=2),  # both are shared
        "comigs-trusted": _experts(TRUSTED, specialists=1),
        "fedalt": _adapter(_unguarded("uniform"), sharing="individual"),  # repo jmbian/FedALT
        "fedalt-trusted": _adapter(TRUSTED, sharing="individual"),
        "pf2lora-alone": _adapter(ALONE, sharing="two-level"),  # twice the steps
        "pf2lora": _adapter(_unguarded("uniform"), sharing="two-level"),  # arXiv 2503.03920
        "pf2lora-trusted": _adapter(TRUSTED, sharing="two-level"),
        # training without gradients: MeZO, arXiv 2305.17333, and PocketLLM, arXiv 2407.01031
        "mezo-alone": {**ALONE, "trainers": (MEZO,)},
        "mezo": {**TRUSTED, "trainers": (MEZO,)},
        "mezo-and-adamw-alone": {**ALONE, "trainers": HALVES},
        "mezo-and-adamw": {**TRUSTED, "trainers": HALVES},
        "fslora": _adapter(_unguarded("uniform"), sharing="sketch", own_ranks=OWN_RANKS),  # arXiv 2501.19389
        # the same factors and rules by the weights of the default trust, and with its guard
        "fedsa-trusted": _adapter(TRUSTED, sharing="a"),
        "ffa-trusted": _adapter(TRUSTED, sharing="b"),
        "rolora-trusted": _adapter(TRUSTED, sharing="alternate"),
        "core-svd-trusted": {**TRUSTED, "merge": "core-svd"},
        "stack-trusted": {**TRUSTED, "merge": "core-svd", "merge_options": {"energy": STACKED}},
        "own-rank-trusted": _adapter(TRUSTED, own_ranks=OWN_RANKS),
        "flexlora-trusted": {**_adapter(TRUSTED, own_ranks=OWN_RANKS), "merge": "core-svd"},
        "fslora-trusted": _adapter(TRUSTED, sharing="sketch", own_ranks=OWN_RANKS),
    }
)

NEIGHBOURS: tuple[str, ...] = (
    "cobo", "cobo-box", "fedsa", "ffa", "core-svd", "stack", "rolora", "hetlora", "flexlora", "fslora", "one4all",
    "per-pcs", "per-pcs-by-loss",
    "comigs-1g1s", "comigs-2s", "comigs-2g", "comigs-trusted", "fedalt", "fedalt-trusted",
    "pf2lora-alone", "pf2lora", "pf2lora-trusted",
    "mezo-alone", "mezo", "mezo-and-adamw-alone", "mezo-and-adamw",
)  # fmt: skip
"""Methods of other papers: each row is added by a line here and one in `SCHEMES`."""

SHARED = ("fedsa", "ffa", "rolora", "core-svd", "stack")
RANKED = ("own-rank", "flexlora", "fslora")
PAPER = ("local", "fedavg", "theoretical", "weight-similarity", "validation", "prediction-similarity")
GROUPS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "paper": PAPER,
        "main": (*PAPER, "first-order", "mixture", "default"),
        "faithful": tuple(name for name in SCHEMES if name.endswith("-faithful")),
        "neighbours": NEIGHBOURS,
        "served": ("local", "default", "default-mixture"),
        "baselines": ("fedavg-then-local-50", "fedavg-then-local-75", "fedavg-then-local-90", "ditto"),
        "variants": tuple(name for name in SCHEMES if name.endswith(("-top-k", "-threshold"))),
        "sharing": ("fedavg", "default", *(name + how for name in SHARED for how in ("", "-trusted"))),
        "ranks": ("own-rank-alone", "hetlora", *(name + how for name in RANKED for how in ("", "-trusted"))),
        "experts": tuple(name for name in SCHEMES if name.startswith(("comigs", "fedalt", "pf2lora"))),
        "trainers": ("local", "default", "mezo-alone", "mezo", "mezo-and-adamw-alone", "mezo-and-adamw"),
        "topologies": tuple(name for name in SCHEMES if name.endswith(("-ring", "-star"))),
        "all": tuple(SCHEMES),
    }
)


def chosen(names: tuple[str, ...]) -> tuple[str, ...]:
    """Schemes and groups of them as schemes, each once. OptionError with all names for one that does not exist."""
    found: list[str] = []
    for name in names:
        if name not in SCHEMES and name not in GROUPS:
            raise OptionError(
                f"there is no scheme {name!r}", f"choose from {', '.join(SCHEMES)}; or groups: {', '.join(GROUPS)}"
            )
        found.extend(GROUPS.get(name, (name,)))
    return tuple(dict.fromkeys(found))


def applied(config: SimulationConfig, scheme: str) -> SimulationConfig:
    """The config of one scheme. What a change says of a part, such as `adapter`, are the fields that change in it."""
    change = {
        name: msgspec.structs.replace(getattr(config, name), **value) if name in PARTS else value
        for name, value in SCHEMES[scheme].items()
    }
    return msgspec.structs.replace(config, **change)
