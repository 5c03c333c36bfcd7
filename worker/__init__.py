"""The worker: takes messages off the queue in batches and turns photos into cut-outs."""
