"""Losses on text, and what may be said of the difference of two models.

One unit throughout: the mean cross-entropy over predicted tokens, in nats. Means are over tokens and not over windows
or documents, so that a split's loss does not depend on how it is cut; perplexity, its exponential, is for people alone.

Two questions have two answers. Whether one adapter beats another on this text is decided by losses paired over the same
windows (`paired`). What may be said of other text of the same kind takes an interval over documents (`difference`).

Shapes, by suffix: b windows of a batch, t tokens of the longest of them, w windows of a split in their order.
"""
