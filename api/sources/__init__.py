"""What a job may be made from: access policy, rows, manifests, archives, listing, expansion."""
