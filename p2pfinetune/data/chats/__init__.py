"""Conversations: what they are, the shapes in which people have them, and how a model's template writes them out.

    turns      what a turn is, and what a conversation is as text
    shapes     a row of JSON as a conversation: the forms of datasets for training
    exports    a whole JSON file: rows, exports of chat services, or nothing that may be trained on
    messages   exports of messengers as lines of text
    template   what the base's own chat template makes of a conversation, with a place held for each text in it
    marking    from there to token ids, of which those of the answers are counted

Which turns are answers is said by the shape in which a conversation was found, and whether they alone are learnt by the
option `loss`. Files are read elsewhere (`data.pieces`).
"""
