"""The learning library: adapters, training, trust, merging. No sockets, no clock, no event loop.

Peers with private text fine-tune LoRA adapters (arXiv 2106.09685) of one frozen base, hear each other's, and each makes
an aggregate of its own by a row of trust: personalised collaborative fine-tuning after Wagner, Fan and Jaggi (2024,
arXiv 2404.09753), without a server and without a public set. One round of one peer is `round.learner`; everything below
it is a function of values, and everything above it (simulation, comparison, the daemon `peerd`) drives learners.

Who calls says when: time comes in as numbers, randomness follows from seeds, and the device is what the caller chose.
So a run can be repeated to the bit, interrupted anywhere and gone on with, which is what every figure here rests on.

Suffixes of tensors and arrays name their axes (`logits_nv` is positions by vocabulary); the legend is at the head of
each package: `model`, `merge`, `trust`, `scoring`, `batched`, `training`, `round`, `simulation.hostile`.
"""
