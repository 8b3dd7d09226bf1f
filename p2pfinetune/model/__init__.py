"""What a base model is, how it is loaded and run, and the adapter that is trained upon it.

The base is frozen and shared: many adapted models of one base in a process hold its tensors once (`adapter.tree_of`).
What two peers must agree on to mix is fixed here as digests of content (`fingerprints`), and never by a name or a path.
What a device decides for itself, its precision above all, is kept out of them.

Modules that need no model, such as `precision`, are functions of values; `processor` is the one place that asks the
machine. Names are checked without torch, so that help and errors of configuration come at once.

Shapes, by suffix and in the order of the axes:

    b, t   rows of a batch, tokens of the longest (padded on the right)
    n      positions that count, of all rows
    v      entries of the vocabulary
    p      all entries of an adapter, in the order of `FactorSet.vector`
    A      (rank, in), B (out, rank); r rank, i inputs, o outputs, so that A is a_ri and B is b_or
"""
