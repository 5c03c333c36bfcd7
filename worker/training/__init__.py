"""Training of the built-in model: data, network, training loop, export (see README.md)."""
