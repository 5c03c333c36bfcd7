"""The sources of a job: access policy, rows, manifests, archives, listing, expansion."""
