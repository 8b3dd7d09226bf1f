"""The arithmetic of MeZO's steps, which every device has to get right to the bit: random signs, and moves on a grid.

A step of MeZO (Malladi et al. 2023, arXiv 2305.17333, algorithm 1) looks at the loss at theta + eps z and at theta -
eps z for a random direction z, and moves theta along z by a multiple of the slope between the two. Who knows the seed
knows every z, so a training is a list of numbers, one a direction, and can be told so instead of by weights. That holds
only if z and the moves are the same on every processor, so both are defined here and in integers:

    signs   z is a sign for each entry, from bits of the counter-based generator Philox: no logarithm, no cosine
    steps   a place is a whole number of millionths from the seeded start; a move adds or takes away another one

numpy alone; no torch, no device, no state between two calls.
"""
