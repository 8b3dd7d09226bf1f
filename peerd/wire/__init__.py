"""What travels: messages, keys, the signed envelope, bounded framing. Neither sockets nor decisions.

    messages   what can be said, as frozen values       keys       who says it (Ed25519, RFC 8032; libp2p peer ids)
    framing    values to bounded bytes and back         envelope   bytes that are signed
    addresses  multiaddrs, filtered before any dial     places     whose address it is, for every count by place
    traits     why two networks cannot mix              shelf      blobs by digest, as a transport needs them

Parsing happens here and once: bytes of a stranger become a value of these types or a `Refusal`, and nothing above looks
at bytes again. A refusal has a fixed word, by which it is counted, and a detail for the log.
"""
