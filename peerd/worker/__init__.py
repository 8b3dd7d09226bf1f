"""The child process that owns torch, and the daemon's side of it.

    daemon (asyncio)                                      worker (one process, niced)
    supervisor.Worker  starts it again, blames hangs      child.Child   takes jobs in order, answers
    process.Life       one process from start to end      jobs.Jobs     what each job does, with the library
          jobs  -----  framing, over stdin  ----------->
          <---------  framing, over stdout  -----------   answers, notes of progress
          <---------  plain lines, over stderr  --------  the log

A process of its own for three reasons: training never competes with the daemon's loop for Python's interpreter lock;
memory runs out in the process that trains, and ends that one alone; and what strangers sent (an update) is decoded
where a crash costs seconds of training and neither a connection nor a key. Messages name files and carry no tensor, so
a job costs the pipe some hundred bytes.

What the worker knows is worth no more than its last checkpoint: it may be killed at any time, and the next one goes on
from there to the same bits.
"""
