"""Many adapters on one base in one pass: training together and scoring together, with the numbers of one by one.

A pass over a small model is mostly overhead: weights are read anew for every adapter, by hundreds of products that are
each soon done. Peers of a simulation, a peer and its twin, and all neighbours'
adapters of a round share a base, so they go through it together. Nothing here knows a peer, a round or a rule.

The contract is that nobody can tell: every function here has a one-by-one counterpart (`Trainer.run`, `evaluate`) and
agrees with it within float tolerance, for any company and any order. What cannot be batched runs one by one by itself,
and what a model allows is found out by trying it, not by its name.

    stack       a model that carries k adapters, whose factors are rows of one matrix
    layers      the linear layer of such a model, and its gradient
    output      the output layer and the loss, in chunks
    packing     windows of any length without padding, on a CPU
    training, measuring, gradient     what the rest of the library calls

Shapes, by suffix and in the order of the axes:

    k   adapters (peers) in a pass
    p   numbers of one adapter as a row: A of a layer, then B transposed, layer by layer
    t   in `training`, numbers of those that are trained; elsewhere, tokens of a window
    s   sequences of a peer's step
    m   rows of a peer in a pass; i inputs, o outputs, r rank of a layer
    b, w   windows of a padded batch, windows of a measure
    n   positions that count; d width of the model, v entries of the vocabulary
"""
