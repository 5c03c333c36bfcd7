"""The console: pages in the browser, built on the public API alone."""
