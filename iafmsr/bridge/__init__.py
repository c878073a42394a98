"""The way to BasicSR: its cures, and the one module that imports it."""
