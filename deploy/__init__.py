"""Operation: the `matting` command, the embedded stack, containers and Kubernetes."""
