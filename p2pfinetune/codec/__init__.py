"""Codecs: one file each.

A codec writes an update as bytes and reads such bytes from strangers. What is written is a delta from the seeded start
(`round.update`), in a safetensors container (`_container`): a format whose header names every tensor's dtype, shape and
place, so that all of it can be checked before a byte of data is looked at, and which runs nothing when it is read.

Which codec a peer publishes in is its own choice and told in its announcement; every peer reads all that it has.
Entries of a delta are small and most of the same size, so 16 bits lose nothing that a round would notice and 8 bits
little. No residual is kept: an update is always the whole way from the start, so an error is not carried from
round to round. One that is the same in every round still adds up at those who merge it, see `levels`.

What holds of every codec: encoding is a function of the tensors alone, so equal adapters are equal bytes and have one
digest; `decode` never raises because of what is in the bytes, but gives a counted `Refusal`; the largest error of every
entry is stated by `error_bound`, and tested.
"""

from functools import cache

from p2pfinetune.codec._base import Codec, DifferenceCodec, Schema
from p2pfinetune.registry import Registry

CODECS: Registry[Codec] = Registry("p2pfinetune.codec", Codec, "codec")  # type: ignore[type-abstract]


@cache
def difference_codecs() -> frozenset[str]:
    """Names of those whose blobs may be differences to a base."""
    return frozenset(name for name in CODECS.names() if issubclass(CODECS.find(name), DifferenceCodec))


__all__ = ["CODECS", "Codec", "DifferenceCodec", "Schema", "difference_codecs"]
