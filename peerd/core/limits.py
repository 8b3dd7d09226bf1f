"""Every bound on what strangers can make a node keep or do, each with its reason. Nothing here is for users to set.

A peer id costs nothing, so a bound for each id bounds nothing by itself; each kind of cost has a bound on the whole
first (known peers, fetches, dials, strangers' announcements), and within it a part that a newcomer cannot take from
those who proved good. Numbers with `_BURST` and `_A_SECOND` belong together: a token bucket (`peerd.pacing.Bucket`).
`peerd.testing.invariants` checks the sizes after every step; bounds of the network back ends are in `peerd.net.limits`.
"""

from __future__ import annotations

MAX_KNOWN_PEERS = 256  # some times the largest neighbourhood; such a table is walked in well under a millisecond
MAX_SEEN = 1024  # newest sequence numbers of peers that left the table, so that coming back is no way to replay
MAX_REASONS = 32  # distinct refusal words; there are about twenty, anything beyond is counted as "other"
MAX_REASON = 40  # characters of a refusal word
MAX_GARBAGE = 512  # digests waiting to be deleted; what falls out is swept at the next start

MAX_FETCHES = 8  # transfers at once: one slow peer holds one of them, and eight fill a home's uplink
MAX_NEWCOMER_FETCHES = 6  # of them from peers without weight in my last row: slow strangers leave places to others
MAX_FETCH_TRIES = 5  # of one announcement; by then about a minute has passed and a newer one is near
OTHERS_PAUSE_SECONDS = 60.0  # before others are asked again for what one announced that I am not connected with
MAX_OTHER_HOLDERS = 2  # besides the origin: asking everybody would multiply the load of a rare blob
FETCH_BACKOFF_SECONDS = 2.0  # first wait after a failed fetch, then doubled
MAX_FETCH_BACKOFF_SECONDS = 600.0
MIN_BYTES_A_SECOND = 32 * 1024  # slower than this, a transfer runs into its timeout
MAX_FETCH_SECONDS = 3600.0
FETCH_GRACE_SECONDS = 60.0  # beyond its timeout, a fetch without any answer is taken for failed
MAX_STRIKES = 3  # refused updates in a row after which nobody waits for that peer any more
MAX_MISSED = 3  # announcements in a row whose blob could not be had after which nobody waits for that peer any more

MAX_DIALS = 4  # at once; a dial may take 15 seconds
DIAL_BACKOFF_SECONDS = 1.0  # first wait after a failed dial, then doubled
MAX_DIAL_BACKOFF_SECONDS = 300.0  # for ever: a laptop that comes back is found within minutes
LONELY_DIAL_SECONDS = 60.0  # the longest pause of one that nobody is connected to: it has nothing better to do
SILENT_SECONDS = 120.0  # one that is heard again after so long is back, and dialled at once
STEADY_SECONDS = 30.0  # a connection that ends sooner counts as a failed dial, or we would knock every second
DIAL_GRACE_SECONDS = 60.0  # a dial without any answer is taken for failed
KNOCK_BURST = 192.0  # addresses at once at which nobody has answered me: anybody can announce a third party's
KNOCKS_A_SECOND = 3.0  # or all who hear it would knock there as often as a stranger likes
PLACE_KNOCK_BURST = 32.0  # of them at one place, be it a host with many peers: who answers costs nothing
PLACE_KNOCKS_A_SECOND = 0.5
TARGET_KNOCK_BURST = 4.0  # of them at one port of one place, whichever identity names it
TARGET_KNOCKS_A_SECOND = 1 / 30
LEFT_FOR_FRIENDS = 0.25  # of each burst: strangers do not use up what those are looked for with who proved good
MAX_KNOCKED = 512  # places, and targets, kept in mind; their buckets are full again long before there are so many
CLAIMED_ADDRESSES = 3  # tried in one dial, besides those that have answered; the next begins with another
NO_KNOCK_SECONDS = 5.0  # before it is looked again whether one may be knocked at
PROVEN_TRIES = 16  # failed dials in a row, a quarter of an hour at least, after which who answered there may be gone
FOREIGN_SECONDS = 3600.0  # a peer of another network is not dialled again before

REPEAT_SECONDS = 30.0  # between repetitions of the own announcement
SETTLE_SECONDS = 2.0  # after a connect, before the repetition: gossip needs a heartbeat to take a newcomer in
MIN_REPEAT_SECONDS = 5.0  # however many peers connect

ANNOUNCEMENT_BURST = 10.0  # announcements of one peer at once
ANNOUNCEMENTS_A_SECOND = 0.5  # of one peer in the long run; an honest one sends one a round
OWN_BURST = 5.0  # own updates at once, and a second: half of what others take, so that quick rounds are no offence
OWN_A_SECOND = 0.25
QUOTA_SECONDS = 3600.0
QUOTA_BLOBS = 120.0  # the largest of this network, fetched of one peer in QUOTA_SECONDS: a round every half minute
QUOTA_BYTES = 512.0 * 2**20  # or so many, if that is more: small adapters are trained in rounds of seconds
HELD_NEIGHBOURHOODS = 2  # admitted updates on disk: of the next merge, and as many of whom the partial view has left
STRANGER_BURST = 64.0  # first announcements of unknown peers at once
STRANGERS_A_SECOND = 4.0
MAX_AGE_SECONDS = 300.0  # of an announcement: what Flower allows; gossip takes seconds, and each is repeated in 30 s
DOUBLE_SECONDS = 300.0  # after which another daemon with my identity is no longer told of, unless it is heard again
MAX_AHEAD_SECONDS = 60.0  # from the future: what hivemind allows, for clocks that nobody sets
MIN_STRANGE_CLOCKS = 2  # peers whose clocks differ alike before anything is said of mine
MAX_CLOCK_OFF_SECONDS = 100 * 365.25 * 86_400  # more than a machine that believes to live in 1970 is off; else a lie
CLOCK_ROUNDS = 100  # in one of the last so many rounds one had weight that is asked
MAX_LISTENED_TO = 256  # such peers kept in mind
COUNTED_BURST = 50.0  # refusals written to disk at once; beyond, they are counted in memory only
COUNTED_A_SECOND = 5.0

BAN_AT = 11.0  # weighed offences: four that no honest peer commits, or a burst of half a hundred that it might
THROTTLE_AT = 5.0  # weighed offences: two that no honest peer commits; half-way to a ban
THROTTLED_COST = 4.0  # announcements that one of a throttled peer counts for
OFFENCES_HALVE_SECONDS = 600.0  # half of an offence is forgotten after so long
BAN_SECONDS = 600.0  # the first ban
BAN_GROWTH = 4.0  # each further one is so many times longer
MAX_BAN_SECONDS = 86_400.0
MAX_STANDINGS = 512  # offenders kept in mind, half of them the latest
KEPT_BANS_BURST = 64.0  # bans written to disk at once; beyond, they hold until the next start
KEPT_BANS_A_SECOND = 1.0

PARTIAL_VIEW_ROUNDS = 3  # before places that no trust holds are drawn anew: time to be fetched and judged

MIDDLE_GRACE_SECONDS = 180.0  # a question about a middle without any answer is given up; see `peerd.net.middles`
MIDDLE_PAUSE_SECONDS = 5.0  # before the same peer is asked again that had no answer now
MAX_MIDDLE_TRIES = 3  # of one peer in a round of mine
NO_MIDDLE_SECONDS = 3600.0  # before one is asked again that does not take part
MIDDLE_ANSWERS_BURST = 8.0  # answers at once: each is a backward pass over the trust split
MIDDLE_ANSWERS_A_SECOND = 1 / 15  # about what sixteen neighbours ask that meet one in sixteen times, in quick rounds
MIDDLE_ANSWERS_BURST_OF_ONE = 2.0  # of them for one peer at once
MIDDLE_ANSWERS_A_SECOND_OF_ONE = 1 / 60  # so that whoever asks all the time leaves three quarters for the others
MIDDLE_REST = 4.0  # times an answer took: no next one so long, so that others have a fifth of the worker at most
MAX_MIDDLE_REST_SECONDS = 600.0
MIDDLE_WAIT = 10.0  # times a peer let me wait in vain: it is asked no more so long, and others are
MAX_MIDDLES_TOLD = 4  # pairs of blobs in mind for each peer: its last and mine, and those before

REMEMBER_SECONDS = 600.0  # between two writings of the same good peer
GATHER_SECONDS = 5.0  # a newcomer waits so long after each update that came, for another that is about to
MAX_MERGE_DEATHS = 2  # workers lost in the merge of one round before it goes on without neighbours
