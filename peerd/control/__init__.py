"""How people and programs ask a running daemon: the interface on its socket, its answers, and how they are shown.

    verbs       every question once: name, types, patience     client           asks, from Python and for commands
    handlers    how each is answered                           figures, words   how far a figure carries, in words
    api, serve  routes; HTTP on a Unix socket of this user     panels, render   pictures for page and terminal
    door, places, seats, credentials: who may come in, how many, and who gives way
    dashboard_proxy, web: the page, on a loopback port with a secret of its own

HTTP, so that anything can ask; a Unix socket, so that the kernel says who asks and no port is open (ADR 0008). The
interface reads the snapshot and passes wishes on: it decides nothing, and a daemon with nobody watching is the same
daemon.
"""
