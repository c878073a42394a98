"""Trained networks at work: weights, pictures, tiles."""
