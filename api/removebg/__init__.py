"""remove.bg's API: its parameters and its answers."""
