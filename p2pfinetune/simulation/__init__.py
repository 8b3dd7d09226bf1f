"""Many peers in one process, without a network: the daemon's own learning code under a simulated timetable.

What a simulation is for: the questions that a network of real daemons answers too slowly or not twice alike. Which
trust scheme, which topology, what attackers can do, what a round of noise costs. Its peers are the daemon's `Learner`,
so what is measured here is what runs there; replaced are the network and the clock alone.

    config        what is asked, as one value; its digest names the text
    topology      who listens to whom; a directed graph
    timetable     who trains, publishes and hears whom, and when: the whole schedule, drawn before anything runs
    engine        carries it out, wave by wave; here, or on a Ray cluster (`ray_engine`)
    shard         some peers on one live model
    run, record   the loop that can be interrupted at any time, and the folder that it goes on from
    hostile       peers that mean harm

A run is a function of its config: the schedule is a value, every random choice follows from the seed and the name of
what is drawn, and no decision looks at a clock. Engines may differ in the last bits (sums in another order) and in
nothing else.
"""
