"""Conversations: what they are, the shapes in which people have them, and how a model's template writes them out.

turns      what a turn of a conversation is
"""
