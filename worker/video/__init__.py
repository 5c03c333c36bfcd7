"""Clips: reading, matting and writing of moving pictures. PyAV is used here alone."""
