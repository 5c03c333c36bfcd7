"""The network's size, which its two definitions share (network.py trains, export.py runs)."""

WIDTHS = (16, 32, 56, 88, 112)
"""Channels at strides 2, 4, 8, 16, 32."""
