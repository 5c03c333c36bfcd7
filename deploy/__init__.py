"""Running it: the `matting` command, the embedded stack, containers and clusters."""
