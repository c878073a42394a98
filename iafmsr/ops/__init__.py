"""Operators on tensors, in plain PyTorch."""
