"""Sends tens of thousands of images through the embedded stack: `make soak`."""
