"""Image processing without I/O: decoding, mattes, edges, rendering, encoding, review metrics."""
