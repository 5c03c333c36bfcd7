"""The whole system on one machine: child processes, their addresses, their supervisor."""
