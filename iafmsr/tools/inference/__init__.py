"""Trained networks at work: pictures, tiles."""
