"""`peerd demo`: a whole network on this machine, one bootstrap node and some real daemons over real libp2p.

    plan      who takes part, with what text and settings       processes  children, none of which outlives the demo
    deal      text for each, and text that nobody trains on     watch      what they say meanwhile
    run       from beginning to end                             measure    every model on text that no peer has
                                                                result, report   values, and how they are shown

Nothing in it is a stand-in: the daemons are started by the command that people type and are asked over their sockets,
so what the demo shows is what an installation does. The one part that a user has not is the measuring, since a single
peer cannot know how well the others do.
"""
