"""Measurements: quality of pictures, size of networks, how well a map follows the error."""
