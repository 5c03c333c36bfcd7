"""Threads that run beside the requests: sweeper, webhook delivery, waiting for jobs."""
