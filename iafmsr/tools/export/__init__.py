"""Networks given away: as ONNX files, checked against PyTorch, and as files of weights with their options."""
