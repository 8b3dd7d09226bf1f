"""One round of one peer: train, share, compare, merge, and judge the merge. The learner puts it together."""
