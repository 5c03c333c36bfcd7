"""What NVIDIA Triton serves: the writer of a model repository, and the `model.py` inside it."""
