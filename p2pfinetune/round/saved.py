"""What a checkpoint holds: all that a learner has to remember to go on to the bit, and the two files for it.

A file is groups of named tensors and a few plain values in one safetensors container (`training.checkpoint`): nothing
is run when it is read. Names of tensors within a group are those of the adapter's factors, `<module path>.lora_A`
(rank, in) and `.lora_B` (out, rank), fp32.

    kind "learner", LearnerState
      trainer                 the adapter `default`: weights as the trainer holds them
      trainer.exp_avg, ...    what its optimizer gathered, by torch's names; absent before the first step with effect
      twin, twin.exp_avg ...  the same of the twin, once it has parted
      own, personal           adapters after the last training and the last round; equal tensors are written once
      twin_best               the twin's best by guard loss, once it has parted
      blend.0, blend.1, ...   members of the mixture of predictions, if there is one
      gates, gates.exp_avg... where gates are trained: vectors (in,) by `<module path>.gate`, and their moments
      values: network         digest of the network; another one's file is refused
              fingerprint     of text, context and guard limit: whether losses below can be compared with today's
              trainer, twin   {steps, moment_steps, kind if not adamw, spec: what of it is not the network's}
              last_row        trust row of the last round that heard anybody; a scheme may go on from it
              trust           {scheme, tables}: what a scheme remembers, if it does
              owed            own guard loss at the guard's last credit, nats a token; absent: no credit is out
              precision       fp32 or bf16, in which all of it was trained last
              plan            {positions, checkpointing, quantize}: how it fitted; absent: with nothing done about it
              gates           {steps, moment_steps}
              has_twin, is_alone, best_local, served    of the twin and of the adapter that a person is given
              blend           {weights: by member, in order; loss, gain: see `blend`; is_served}, of the mixture

    kind "best"
      best                    the adapter with the best guard loss so far; values: network, fingerprint

Not in it: options and text, which the caller brings; the place in the text, random numbers and learning rates, which
follow from seed and step; and the best's loss, which the caller keeps beside the file (a new best is written by itself,
so that the large file need not be). Whether a file is durable and which of two is newer is the caller's business, too.

A peer holds adapters by name, each with a spec and a training of its own: `default`, which its network is about, and,
once it has parted, the twin's, which nobody else ever sees. A file says of each what is not the network's spec, so it
can be told in words that a start asks for another rank than was trained; one adapter more is one name more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from torch import Tensor

from p2pfinetune.errors import UNREADABLE, CheckpointError, OptionError
from p2pfinetune.model.adapter import Adapter
from p2pfinetune.model.memory import MILDEST, MemoryPlan
from p2pfinetune.model.precision import PRECISIONS, Precision
from p2pfinetune.names import DEFAULT_ADAPTER, SERVED_ADAPTERS, TWIN_ADAPTER, Digest, PeerId, ServedAdapter
from p2pfinetune.options import DEFAULT_TRAINER, AdapterSpec, HeldOptions, SeveralOptions, sections
from p2pfinetune.round.blend import Blend
from p2pfinetune.round.twin_choice import TOO_LATE, WAY_OUT, Begun
from p2pfinetune.training.checkpoint import load_groups, load_values, save_groups
from p2pfinetune.training.gates import MOMENTS, Gates, GateState
from p2pfinetune.training.trainer import Pull, TrainerState
from p2pfinetune.trust import NOTHING, SchemeState

LEARNER, BEST = "learner", "best"
HELD_ALIKE = ("specialists", "specialist_rank", "mixing")  # what decides which tensors an adapter has, beside the rank
GROUPS = {DEFAULT_ADAPTER: "trainer"}  # what the file calls it since before adapters had names; others by their own
GATES, PULL = "gates", "pull"
NO_NAMES = frozenset({"own", "personal", "twin_best", GATES, PULL})  # groups of the file that are no trainings
GROUP_OF = {group: name for name, group in GROUPS.items()}

ANOTHER_NETWORK = (
    "it was written for another base model (its tensors, config.json or tokenizer), adapter or group; use another "
    "--home, or the old model and options"
)


@dataclass(frozen=True, slots=True, eq=False)
class HeldAdapter:
    """One of the adapters that a peer holds: of which kind it is, its weights and all of its training."""

    spec: AdapterSpec
    """The network's, but for the rank that this device holds of it."""
    state: TrainerState
    """Weights, steps and what the optimizer gathered; its adapter has the spec's held rank."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LearnerState:
    """All of a learner that is not in its options, its text, or the file of its best adapter."""

    adapters: Mapping[str, HeldAdapter]
    """By name, `default` at least; the twin's if it has parted from the own training."""
    own: Adapter
    """After the last training, of the rank that this device holds."""
    personal: Adapter
    """What the last round ended with; the trainer's own weights unless it has trained since."""
    has_twin: bool
    """Whether a twin trains, or will once the two part."""
    is_alone: bool
    """Whether the own training is still what training alone would be."""
    twin_best: Adapter
    """The twin's best by guard loss; of no meaning before the two have parted."""
    best_local: float
    """Its guard loss, nats a token, on the text of the fingerprint; infinite before the two have parted."""
    served: ServedAdapter | None = None
    """Which adapter; None: not measured since other text was read."""
    blend: Blend | None = None
    """The mixture of predictions, if one was learnt."""
    is_mixed: bool = False
    """Whether it is what is served."""
    last_row: Mapping[PeerId, float] = field(default_factory=dict)
    """My trust row of the last round that heard anybody, summing to one; a scheme may go on from it. Empty before."""
    kept: SchemeState = NOTHING
    """What the trust scheme remembers."""
    kept_by: str = ""
    """The public name of the scheme that remembers it."""
    owed: float = math.inf
    """The own guard loss at the last credit of the guard, nats a token; infinite: none is out."""
    pull: Pull | None = None
    """What draws the own training, of a trust scheme that does not merge; of the rank that this device holds."""
    precision: Precision = "fp32"
    """In which all of it was trained last."""
    plan: MemoryPlan = MILDEST
    """In which passes, and whether computing again, on a base held how."""
    gates: GateState | None = None
    """None: none are trained."""

    def kept_for(self, scheme: str) -> tuple[SchemeState, str]:
        """What this scheme remembers, and, if another one did, why that is nothing."""
        if not self.kept.tables or self.kept_by == scheme:
            return self.kept, ""
        return NOTHING, f"what the trust scheme {self.kept_by!r} remembered says nothing to {scheme!r}: it begins anew"


def save_state(path: Path, network: Digest, fingerprint: str, memory: LearnerState) -> None:
    """Write one file."""
    groups: dict[str, Mapping[str, Tensor]] = {"own": memory.own.tensors, "personal": memory.personal.tensors}
    values: dict[str, Any] = {"network": network, "fingerprint": fingerprint, "last_row": dict(memory.last_row)}
    values |= {"precision": memory.precision, "has_twin": memory.has_twin, "is_alone": memory.is_alone}
    if memory.plan != MILDEST:
        values["plan"] = asdict(memory.plan)
    if memory.served is not None:
        values["served"] = memory.served
    if (blend := memory.blend) is not None:
        values["blend"] = {
            "weights": dict(blend.weights), "loss": blend.loss, "gain": blend.gain, "is_served": memory.is_mixed,
        }  # fmt: skip
        groups |= {f"blend.{i}": member.tensors for i, member in enumerate(blend.adapters)}
    if memory.kept.tables:
        values["trust"] = {"scheme": memory.kept_by, "tables": {k: dict(t) for k, t in memory.kept.tables.items()}}
    if memory.pull is not None:
        groups[PULL] = memory.pull.adapter.tensors
        values[PULL] = memory.pull.strength
    if math.isfinite(memory.owed):
        values["owed"] = memory.owed
    network_spec = _of_network(memory.adapters[DEFAULT_ADAPTER].spec)
    for name, held in memory.adapters.items():
        _put(GROUPS.get(name, name), held, network_spec, values, groups)
    if memory.gates is not None:
        groups |= {GATES: memory.gates.gates.tensors, **{f"{GATES}.{k}": t for k, t in memory.gates.moments.items()}}
        values[GATES] = {"steps": memory.gates.steps, "moment_steps": memory.gates.moment_steps}
    if TWIN_ADAPTER in memory.adapters:
        groups["twin_best"] = memory.twin_best.tensors
        values["best_local"] = memory.best_local
    save_groups(path, LEARNER, values, groups)


def load_state(
    path: Path, network: Digest, spec: AdapterSpec, *, with_twin: bool, formerly: Digest | None = None
) -> tuple[LearnerState, str]:
    """The memory and the fingerprint of its text; a twin that is not asked for is left behind.

    `spec`: of what the learner holds now; CheckpointError if the file's adapters are of another rank.

    `formerly`: what an earlier version called the same network, where this one calls it otherwise.
    """
    values, groups = load_groups(path, LEARNER)
    _must_be_of(path, values, network, formerly)
    try:
        is_alone = values.get("is_alone") is True and "twin" not in groups
        if with_twin and not is_alone and "twin" not in groups:
            raise CheckpointError(f"{path} holds no twin, {TOO_LATE}", WAY_OUT)
        has_parted = with_twin and not is_alone
        own = Adapter(groups["own"])
        named = {
            GROUP_OF.get(key, key): _take(key, spec, values, groups) for key in values if _is_held(key, values, groups)
        }
        _must_be_held_alike(path, named, spec)
        for name in (DEFAULT_ADAPTER, TWIN_ADAPTER) if has_parted else (DEFAULT_ADAPTER,):
            if name not in named:
                raise CheckpointError(f"{path} is not complete: of the adapter {name!r} it holds no training")
        memory = LearnerState(
            adapters={name: held for name, held in named.items() if has_parted or name != TWIN_ADAPTER},
            own=own, personal=Adapter(groups["personal"]), has_twin=_has_twin(values), is_alone=is_alone,
            twin_best=Adapter(groups["twin_best"]) if has_parted else own,
            best_local=float(values["best_local"]) if has_parted else math.inf,
            served=next((word for word in SERVED_ADAPTERS if word == values.get("served")), None),
            blend=_blend(values, groups), is_mixed=bool(values.get("blend", {}).get("is_served")),
            last_row={PeerId(str(peer)): float(weight) for peer, weight in values.get("last_row", {}).items()},
            kept=_kept(values.get("trust", {})), kept_by=str(values.get("trust", {}).get("scheme", "")),
            owed=float(values.get("owed", math.inf)),
            precision=_precision(values) or "fp32", plan=_plan(values) or MILDEST, gates=_gates(values, groups),
            pull=_pull(values, groups, own) if PULL in values else None,
        )  # fmt: skip
        return memory, str(values["fingerprint"])
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, OptionError, *UNREADABLE) as error:
        raise CheckpointError(f"{path} is not complete: {error}") from error


def precision_of(path: Path) -> Precision | None:
    """What a learner's file was trained in; None if it does not say, or is no such file: `load_state` tells why."""
    try:
        return _precision(load_values(path, LEARNER))
    except CheckpointError:
        return None


def plan_of(path: Path) -> MemoryPlan | None:
    """By which plan a learner's file was trained last; None if it is no such file: `load_state` tells why."""
    try:
        return _plan(load_values(path, LEARNER))
    except CheckpointError:
        return None


def begun_as(path: Path) -> Begun | None:
    """What a learner's file knows of a twin; None if it is no such file: `load_state` tells why."""
    try:
        values = load_values(path, LEARNER)
    except CheckpointError:
        return None
    if _has_twin(values):
        return "with a twin"
    return "alone so far" if values.get("is_alone") is True else "without a twin"


def save_best(path: Path, network: Digest, fingerprint: str, best: Adapter) -> None:
    """Write one file."""
    save_groups(path, BEST, {"network": network, "fingerprint": fingerprint}, {"best": best.tensors})


def load_best(path: Path, network: Digest, formerly: Digest | None = None) -> tuple[Adapter, str]:
    """The adapter and the fingerprint of the text that it was best on."""
    values, groups = load_groups(path, BEST)
    _must_be_of(path, values, network, formerly)
    try:
        return Adapter(groups["best"]), str(values["fingerprint"])
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{path} is not complete: {error}") from error


def _has_twin(values: Mapping[str, Any]) -> bool:
    """Earlier versions wrote a twin or none, and no word of it."""
    return values["has_twin"] is True if "has_twin" in values else "twin" in values


def _blend(values: Mapping[str, Any], groups: Mapping[str, Mapping[str, Tensor]]) -> Blend | None:
    if (told := values.get("blend")) is None:
        return None
    weights = {str(name): float(weight) for name, weight in told["weights"].items()}
    members = {name: Adapter(groups[f"blend.{i}"]) for i, name in enumerate(weights)}
    return Blend(members, weights, float(told["loss"]), float(told["gain"]))


def _kept(saved: Mapping[str, Any]) -> SchemeState:
    tables = saved.get("tables", {}).items()
    return SchemeState(
        {str(name): {str(key): float(number) for key, number in table.items()} for name, table in tables}
    )


def _gates(values: Mapping[str, Any], groups: Mapping[str, Mapping[str, Tensor]]) -> GateState | None:
    if GATES not in groups:
        return None
    moments = {kind: groups[f"{GATES}.{kind}"] for kind in MOMENTS if f"{GATES}.{kind}" in groups}
    counts = values[GATES]
    return GateState(Gates(groups[GATES]), int(counts["steps"]), moments, int(counts["moment_steps"]))


def _pull(values: Mapping[str, Any], groups: Mapping[str, Mapping[str, Tensor]], own: Adapter) -> Pull:
    target = Adapter(groups[PULL])
    if target.schema != own.schema:
        raise ValueError("what draws the training has another shape than what is drawn")
    return Pull(target, float(values[PULL]))


def _precision(values: Mapping[str, Any]) -> Precision | None:
    return next((precision for precision in PRECISIONS if precision == values.get("precision")), None)


def _plan(values: Mapping[str, Any]) -> MemoryPlan | None:
    """The mildest of a file that says nothing; None if what it says is no plan."""
    try:
        return msgspec.convert(values.get("plan", {}), MemoryPlan)
    except msgspec.ValidationError:
        return None


def _must_be_of(path: Path, values: Mapping[str, Any], network: Digest, formerly: Digest | None) -> None:
    if values.get("network") not in {network, formerly or network}:
        raise CheckpointError(f"{path} belongs to another network", ANOTHER_NETWORK)


def _of_network(spec: AdapterSpec) -> AdapterSpec:
    """Without what is a device's own affair."""
    return msgspec.structs.replace(spec, **sections.defaults(HeldOptions), **sections.defaults(SeveralOptions))


def _must_be_held_alike(path: Path, named: Mapping[str, HeldAdapter], spec: AdapterSpec) -> None:
    for name, held in named.items():
        if held.spec.held_rank != spec.held_rank:
            raise CheckpointError(
                f"{path} holds the adapter {name!r} of own rank {held.spec.held_rank}, and here it is {spec.held_rank}",
                f"start with --own-rank {held.spec.own_rank}, or begin anew in a new --home",
            )
        for option in HELD_ALIKE:
            was, now = getattr(held.spec, option), getattr(spec, option)
            if was != now:
                switch = option.replace("_", "-")
                raise CheckpointError(
                    f"{path} holds the adapter {name!r} with {switch} {was}, and here it is {now}",
                    f"start with --{switch} {was}, or begin anew in a new --home",
                )


def _is_held(key: str, values: Mapping[str, Any], groups: Mapping[str, Mapping[str, Tensor]]) -> bool:
    return key in groups and key not in NO_NAMES and isinstance(values[key], dict) and "steps" in values[key]


def _put(
    name: str,
    held: HeldAdapter,
    network_spec: AdapterSpec,
    values: dict[str, Any],
    groups: dict[str, Mapping[str, Tensor]],
) -> None:
    """Of the spec, what is not the network's: nothing, if the device holds all of the rank."""
    state = held.state
    groups[name] = state.adapter.tensors
    for kind, tensors in state.tensors.items():
        groups[f"{name}.{kind}"] = tensors
    values[name] = {"steps": state.steps, **state.counts}
    if (
        state.kind != DEFAULT_TRAINER
    ):  # files of before there were others say nothing, and theirs are the same to the bit
        values[name]["kind"] = state.kind
    usual = msgspec.to_builtins(network_spec)
    if odd := {key: value for key, value in msgspec.to_builtins(held.spec).items() if value != usual[key]}:
        values[name]["spec"] = odd


def _take(
    name: str, spec: AdapterSpec, values: Mapping[str, Any], groups: Mapping[str, Mapping[str, Tensor]]
) -> HeldAdapter:
    counts = dict(values[name])
    told = {**msgspec.to_builtins(_of_network(spec)), **counts.pop("spec", {})}
    steps, kind = int(counts.pop("steps")), str(counts.pop("kind", DEFAULT_TRAINER))
    tensors = {key.removeprefix(f"{name}."): held for key, held in groups.items() if key.startswith(f"{name}.")}
    state = TrainerState(Adapter(groups[name]), steps, kind, tensors, {key: int(n) for key, n in counts.items()})
    return HeldAdapter(msgspec.convert(told, AdapterSpec), state)
