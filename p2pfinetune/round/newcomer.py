"""What a learner does with pieces: give its own away, and make a first adapter of its neighbours'.

What a newcomer would begin from otherwise is the seeded start, which adds nothing to the base. What is proposed of
pieces is taken if it is below that on the guard split, on which no piece was chosen. That a twin begins at the seeded
start all the same is the learner's business: it is what training alone would be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from p2pfinetune.data.corpus import TokenSplit
from p2pfinetune.errors import OptionError
from p2pfinetune.model.adapter import AdaptedModel, Adapter
from p2pfinetune.names import PeerId, Refusal, Served
from p2pfinetune.options import LearnerOptions, TrainingOptions
from p2pfinetune.options.pieces import assembly_options, must_share_pieces
from p2pfinetune.round import guard
from p2pfinetune.round.collaborate import Outcome
from p2pfinetune.round.figures import AssemblyFigures, RoundFigures
from p2pfinetune.round.pieces import (
    CODEC,
    Assembly,
    History,
    Sharer,
    assemble,
    encode_gates,
    history_of,
    inspect_gates,
    refined,
)
from p2pfinetune.round.result import Collaboration, on_split
from p2pfinetune.round.update import LoraUpdate
from p2pfinetune.scoring.evaluate import Evaluation
from p2pfinetune.training.gates import Gates, GateState, GateTrainer, gate_schema
from p2pfinetune.trust import TrustContext

Measured = Callable[[Adapter], Evaluation]


@dataclass(frozen=True, slots=True, kw_only=True)
class First:
    """A first adapter that was proposed, and what the guard made of it."""

    me: PeerId
    assembly: Assembly
    on_guard: Evaluation
    """Of what training would begin from."""
    on_base: Evaluation
    outcome: Outcome
    loss_trust: float

    def told(self, best_guard: float, served: Served) -> Collaboration:
        """As a round ends."""
        figures = RoundFigures(
            loss_trust=self.loss_trust,
            guard_base=self.on_base.loss,
            guard_own=self.on_guard.loss,
            guard_personal=self.outcome.loss,
            on_guard=on_split(self.outcome.on_guard, self.on_base, None, (self.outcome.on_guard, self.on_guard)),
            assembly=AssemblyFigures(peers=self.assembly.candidates, layers=len(self.assembly.scores)),
        )
        return Collaboration(
            row=self.assembly.row(self.me), accepted=not self.outcome.reason, reason=self.outcome.reason,
            figures=figures, best_guard=best_guard, new_best=not self.outcome.reason, served=served, refused={},
            copies=(),
        )  # fmt: skip


class Pieces:
    """Of one learner: the gates of its own adapter, if it trains any, and how it chooses among others' pieces."""

    def __init__(
        self, adapted: AdaptedModel, split: TokenSplit, training: TrainingOptions, options: LearnerOptions
    ) -> None:
        self._adapted, self._split, self._training, self._options = adapted, split, training, options
        self._how = assembly_options(options.assemble_options)
        self._gates = GateTrainer(adapted, split, training, options) if options.gate_steps else None

    @property
    def state(self) -> GateState | None:
        """To be saved; None: no gates are trained."""
        return None if self._gates is None else self._gates.state

    def resume(self, state: GateState | None) -> None:
        """Go on from there, if gates are trained and were."""
        if self._gates is not None and state is not None:
            self._gates.load_state(state)

    def reread(self, split: TokenSplit) -> None:
        """Go on with other text."""
        self._split = split
        if self._gates is not None:
            self._gates.reread(split)

    @property
    def max_bytes(self) -> int:
        """Of the largest valid gates in this network."""
        return CODEC.max_bytes(gate_schema(self._adapted))

    def steps(self, own: Adapter) -> Iterator[float]:
        """A round's steps of the own gates, one by one; the loss before each, in nats a token."""
        if self._gates is not None:
            for _ in range(self._options.gate_steps):
                yield from self._gates.run(own, 1)

    def train(self, own: Adapter) -> int:
        """All steps of a round; how many those were."""
        return 0 if self._gates is None else len(self._gates.run(own))

    def encode(self) -> bytes | None:
        """What a newcomer is given to find pieces by; None where no gates are trained, or not yet."""
        state = self.state
        return encode_gates(state.gates) if state is not None and state.steps else None

    def admit(self, blob: bytes) -> Gates | Refusal:
        """A peer's gates, after every check."""
        return inspect_gates(blob, gate_schema(self._adapted))

    def first(
        self,
        me: PeerId,
        own: Adapter,
        updates: Mapping[PeerId, LoraUpdate],
        gates: Mapping[PeerId, Gates],
        *,
        context: TrustContext,
        measure: Measured,
        on_base: Evaluation,
    ) -> First:
        """Proposed of those who gave both, and judged; `context` is of the trust split, `measure` of the guard split.

        OptionError where pieces mean nothing, and if nobody gave both.
        """
        must_share_pieces(self._adapted.spec.sharing)
        initial = self._adapted.initial
        known = {peer: update for peer, update in updates.items() if peer in gates and peer != me}
        sharers = {peer: Sharer(update.adapter(initial, own), gates[peer]) for peer, update in known.items()}
        if not sharers:
            raise OptionError("no neighbour gave both an adapter and gates that can be used", "train as usual")
        assembly = assemble(self._adapted, sharers, self._history(), self._how)
        if self._how.choose == "loss":
            assembly = refined(assembly, sharers, initial, context.losses)
        on_guard = measure(own)
        outcome = judged(assembly.adapter, own, on_guard, measure, self._options)
        return First(me=me, assembly=assembly, on_guard=on_guard, on_base=on_base, outcome=outcome,
                     loss_trust=context.loss(outcome.personal))  # fmt: skip

    def _history(self) -> History:
        return history_of(
            self._split,
            documents=self._how.documents,
            context=self._training.context,
            vocabulary=int(self._adapted.model.config.get_text_config().vocab_size),
            max_tokens=self._how.tokens,
        )


def judged(
    assembled: Adapter, own: Adapter, on_guard: Evaluation, measure: Measured, options: LearnerOptions
) -> Outcome:
    """What is gone on from, by the guard split. `own` is what training would begin from, measured as `on_guard`."""
    found = measure(assembled)
    said = guard.verdict(
        on_guard.per_window, found.per_window, on_guard.per_window_tokens, on_guard.loss, options.tolerance
    )
    if said.accepted or (not options.guarded and said.reason != guard.NOT_FINITE):
        return Outcome(assembled, found, said.merged, "", moments_fit=True)
    return Outcome(own, on_guard, said.own, said.reason, moments_fit=True)
