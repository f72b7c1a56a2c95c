"""Codecs: bytes in, values out, and back. Pure: no clock, network, randomness or store (law 6)."""
