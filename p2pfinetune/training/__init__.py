"""One adapter trained on one split: batches, rates, steps, and the file that a run goes on from.

Between two rounds a peer trains like anybody: next-token cross-entropy on its own text, the base frozen (LoRA, arXiv
2106.09685). What is particular is that it must be possible to stop anywhere and go on to the bit, and to train many
peers in one pass with the numbers of one by one. Both come from the same rule: batches, dropout and learning rate are
functions of a seed and the number of the step, so the only state is weights, what the optimizer gathered, and a count.

    trainer            what every trainer owes (`Trainer`), its report and its state
    trainers           kinds of trainers, plug-ins: one file each
    gradient_trainer   the trainer of all kinds that are a rule from a gradient to a step
    batches, schedule  which tokens a step sees, and how long it is
    checkpoint         groups of tensors and values in one file
    step_times         whether a step is quicker in bf16 here

Shapes: a batch of blocks is (sequences, context + 1) token ids: a block and the token behind its last prediction.
"""
