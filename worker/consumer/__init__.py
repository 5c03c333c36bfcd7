"""From the queue to batches: collect messages, claim items, renew leases, record, acknowledge."""
