"""Model classes for BasicSR's registry, what all of them have from here, and losses."""

from typing import Any

__all__ = ['IAFMNetModel']


def __getattr__(name: str) -> Any:
    """The model class is imported when it is asked for: it takes the seconds of BasicSR's import."""
    if name != 'IAFMNetModel':
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from iafmsr.models.iafmnet_model import IAFMNetModel

    return IAFMNetModel
