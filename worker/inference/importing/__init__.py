"""Imports ONNX networks as bundles that the predictor can serve.

Start at `importer.import_onnx`. `graph` reads the file and folds constants. `walk` builds a Paddle
program node by node with the handlers in `operators`. `bundle` writes it. `check` compares it with
onnxruntime on photos. This needs the extra `onnx` (the packages onnx and onnxruntime).
"""
