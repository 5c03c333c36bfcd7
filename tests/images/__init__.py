"""What an engine would do with the Dockerfiles, done without one."""
