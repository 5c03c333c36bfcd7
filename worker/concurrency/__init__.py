"""Threads and what they share: the thread pool, the pixel budget, the lock, the watchdog."""
