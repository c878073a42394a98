"""The commands, each in its own folder or module."""
