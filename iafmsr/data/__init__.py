"""Data: pictures, their preparation for training, and where they are kept."""
