"""`peerd serve`: the models of this peer for editors, chat windows and scripts, as OpenAI's and Ollama's interfaces.

    client --HTTP--> gate --> openai | ollama --> upstream --Unix socket--> daemon --> worker
                      |            |
                 key, host     one question, `RespondQuestion`, and what is said as each interface writes it

A light process of its own, as the dashboard's is: it holds no model, so there is no second copy of the base, and the
newest adapter is the one that the worker has. It may run before the daemon does, and goes on when it comes back.

What of an interface does not exist here is refused by name: an answer that left out a tool, an image or a format
unasked would be believed. What only tunes (penalties of zero, users, metadata) is passed over.
"""
