"""Checks the Dockerfiles without Docker."""
