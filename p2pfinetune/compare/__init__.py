"""Many simulations side by side: the plan, the sweep, and its tables and plots.

A comparison is a list of simulations that differ in scheme and seed alone, so that what is compared is paired: the same
peer with the same text, order of batches and start under every scheme. Everything is on disk in between: a sweep writes
run folders, and tables and plots read them, so a figure can be made again, and a sweep stopped at any time.

    plan, schemes    which simulations: a config, changed by the scheme's row
    sweep            runs what is not complete, in processes of its own
    folders          reads what runs left behind
    summary          every figure that is told, as pure functions of runs
    tables, plots, trust_matrices     the same figures as Markdown, CSV, JSON and pictures

Nothing but `summary` computes a figure, so no table can differ from a plot.
"""
