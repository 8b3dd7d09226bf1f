"""The rendezvous node: tells peers of one network about one another, and knows nothing of what they do together."""
