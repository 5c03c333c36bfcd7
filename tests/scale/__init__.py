"""Measures every query on a database of a million jobs and ten million images."""
