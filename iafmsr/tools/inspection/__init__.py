"""Where a network spends its work and why: its map, mask and error on pictures, as figure, page, text and JSON."""
