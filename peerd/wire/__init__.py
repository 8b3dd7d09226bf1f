"""What travels: messages, keys, the signed envelope, bounded framing. Neither sockets nor decisions."""
