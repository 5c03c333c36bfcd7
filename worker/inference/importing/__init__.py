"""ONNX networks become bundles that the warm predictor serves.

`importer.import_onnx` is the way in: `graph` reads and folds the file, `walk` builds a Paddle
program node by node with the tables of `operators`, `bundle` writes it, `check` compares it with
onnxruntime on photos. Needs the extra `onnx` (the packages onnx and onnxruntime).
"""
