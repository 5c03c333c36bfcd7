"""Models on disk: fetched, checked against the lock file, measured."""
