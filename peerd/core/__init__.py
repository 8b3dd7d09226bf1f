"""The decisions of a peer, without any input or output: see `node.step`.

`step(state, event) -> (state, effects)` is the whole interface. The state is one frozen value (`state.Node`), events
are what has happened (`events`), effects are what the shell has to do (`effects`), and the answer to an effect is an
event again. This is the sans-I/O shape of h11 and the transition tables of dask's worker, with one difference: nothing
is mutated, so a state that was kept stays what it was, and a test, a replay or a page may hold it as long as they like.

    events in             core (pure)                        effects out
    AnnouncementHeard --> intake    checks, takes or refuses
    PeerFound, ...    --> dials     whom to connect with      --> Dial, Disconnect
    BlobFetched, ...  --> fetches   what to bring, from whom  --> Fetch, Admit
    Trained, ...      --> round     where the round stands    --> Train, Publish, Collaborate
    Ticked            --> deadlines of all of them

What it costs: a step copies the table of peers when one of them changes, 256 at most (`limits`). What it buys: no lock,
no test with a sleep, and every bug of the protocol can be run again from a list of events (`peerd.testing.replay`).

Time, lots and data come in with events; the core asks for none of them. It trusts its own side (a wrong call is a bug
and raises) and nobody else: whatever a peer, a network or a disk does is an event, and every event has its handler in
every phase.
"""
