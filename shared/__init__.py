"""What both sides of the queue agree on: settings, options, tables, storage, the queue, errors."""
