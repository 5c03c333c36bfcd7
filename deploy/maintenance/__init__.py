"""Commands for the repository itself: audit, generated references, pictures."""
