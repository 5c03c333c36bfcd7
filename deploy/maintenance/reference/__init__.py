"""Generation of docs/reference from the code: options, settings, errors, metrics, commands."""
