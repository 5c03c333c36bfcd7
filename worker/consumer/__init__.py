"""The queue becomes batches: claims, heartbeats, records, acknowledgements, probes."""
