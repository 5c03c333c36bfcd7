"""The embedded stack: the whole system as child processes on one machine."""
