"""One daemon: the shell around the pure core, what performs its effects, and what has to survive.

    events -->  shell      one event at a time into `core.node.step`; the only owner of the node
    effects <-- shell  --> perform     one method an effect, each a named task that answers with an event
                             |-> worker.supervisor   train, encode, inspect, merge
                             |-> link                the network, whatever back end runs
                             +-> journal             the disk, in one thread; durable before anybody hears of it
    snapshot, view, ledger, recorder read what is there; assembly makes all of it, and ends it.

The core decides and cannot act; the parts here act and decide nothing about peers, rounds or models. So each can be
tried alone: the core with a list of events, a part with a fake of its neighbours.

What happens when a part fails is written once, in `peerd.machine.boundary`.
"""
