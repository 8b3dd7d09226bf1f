"""From the user's files to token splits: files -> documents -> splits -> memory-mapped tokens.

    files, own_files, ignored                       which files are a person's text
    encodings, guess, letters                       what their bytes say
    machine_text, secrets, secret_shapes            what of it is no text, or opens something
    pieces, blocks, documents                       what is left, cut into documents
    near_duplicates, groups, splits, dealing        which documents go together, and to which split
    dealt, dealer                                   the record of that, which is state and never forgotten
    tokens, token_cache, corpus                     ids, on disk, and the whole as one value
    partition, population                           text for many peers, in simulations and the demo
    report, reading_memory, spool, second_opinion   what is told of it, what need not be done again, nor be held
    foresight, telling                              what it would come to, and how far it is

Two things decide nearly everything here. A figure on held-out text is worth nothing if the text, or nearly the text,
was trained on; so documents are never divided, near copies go together, and what was once dealt stays where it is,
whatever is added, edited or deleted (docs/adr/0006 and 0019). And a folder of a person's is no data set: encodings of
thirty years, mail boxes, keys, caches, exports and our own home lie in it, and are found and told, not guessed away in
silence.

A split is one array of token ids, document after document (`TokenSplit`), mapped from disk and never copied as a whole.
"""
