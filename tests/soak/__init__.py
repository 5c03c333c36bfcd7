"""The embedded stack under tens of thousands of images: `make soak`."""
