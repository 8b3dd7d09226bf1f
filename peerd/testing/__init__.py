"""For authors of plug-ins and tests: a network and a store in memory, and what must hold of any state.

As `trio.testing` is part of trio, this is part of peerd and not of its tests: whoever writes a transport, a store or a
discovery method tries it against the same fakes, and the same contract suites keep the fakes honest. `invariants` and
`replay` are used by a running daemon too (`peerd.daemon.recorder`).
"""
