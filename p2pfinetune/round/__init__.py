"""One round of one peer: train, share, compare, merge, and judge the merge. The learner puts it together.

The round of Wagner, Fan and Jaggi (2024, arXiv 2404.09753), with two additions. A peer of an open network may mean
harm, so what it sends is inspected by itself (`update`) and beside the others (`comparison`), and no single neighbour
weighs more than a bound (`collaborate`). And a merge may do harm without anybody's meaning it, so it is tried before it
is kept, on text that chose nothing so far (`guard`, `judging`). The paper's code takes every merge; `guarded=False` is
that.

    learner                        one peer's whole state, and the order of a round
    update, comparison, privacy    what is sent, what is accepted, what is hidden
    context                        all that a trust scheme may ask, measured here
    collaborate, second_look       from neighbours to a trust row, twice
    judging, guard                 from a row to what the round ends with
    twin, twin_choice, twin_times  training alone, beside it, to know what merging is worth
    figures, result, progress      what a round measured, what it answers, how far it is
    saved                          what a checkpoint holds

Adapters are frozen values here; nothing is changed in place but a learner and its trainers.

Shapes, by suffix: n deltas of a round; p positions or entries; c reference contexts, t tokens of each; v entries of the
vocabulary; A (rank, in) and B (out, rank) of one target.
"""
