"""Threads and what they share: thread pool, pixel budget, lock, watchdog."""
