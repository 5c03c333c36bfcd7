"""Installation of models: download, lock file, ONNX import, evaluation."""
