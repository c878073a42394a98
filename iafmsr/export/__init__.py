"""Networks as ONNX files: written, checked against PyTorch, run by onnxruntime."""
