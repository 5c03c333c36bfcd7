"""Submissions: reading the request, estimating its cost, writing the job."""
