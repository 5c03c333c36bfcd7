"""Maintenance commands for this repository: audit, generated reference pages, pictures."""
