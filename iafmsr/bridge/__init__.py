"""The way to BasicSR: its cures, and the one module that imports it.

Nothing here knows what else is in the package: ``import iafmsr`` hands in, as ``wire``, what puts that into BasicSR.
"""


def wire() -> None:
    """Called once, when BasicSR has been imported and cured."""
