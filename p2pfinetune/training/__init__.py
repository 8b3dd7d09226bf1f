"""One adapter trained on one split: batches, rates, steps, and the file that a run goes on from."""
