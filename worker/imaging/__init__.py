"""Pixels only, no I/O: decoding, mattes, edges, rendering, encoding, review measures."""
