"""Networks with their weights: found by name, read safely, recognised, built. Every tool gets its nets from here."""
