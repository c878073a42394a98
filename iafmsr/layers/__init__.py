"""The building blocks of the networks, in plain PyTorch."""
