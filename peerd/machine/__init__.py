"""What the daemon asks of the machine under it: paths, locks, logs, processes, and what runs short.

    before it runs   paths, lock (one daemon a home), shortages (descriptors), unfit (file systems that lack something)
    while it runs    home_watch, loop_watch, shortages, file_signs, logs, apart (calls that may hang), known_types
    when it fails    boundary (what becomes of each task), faults (failures on purpose, for tests)
    when it ends     ending (in order, or by force), orphans (no child outlives it)

Nothing here knows of peers, rounds or models, so the rendezvous node stands on the same floor.
"""
