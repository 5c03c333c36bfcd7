"""How the built-in model was made, to be run again by anybody (see README.md)."""
