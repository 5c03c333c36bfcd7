"""Every query against a database of a million jobs and ten million images."""
