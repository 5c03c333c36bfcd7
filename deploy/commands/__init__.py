"""The subcommands of `matting`, one module each, and what they share."""
