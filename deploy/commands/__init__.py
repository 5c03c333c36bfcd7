"""The subcommands of `matting`, one module each, with shared arguments and progress bars."""
