"""The API: accepts bulk jobs, reports their progress, and gives access to the results."""
