"""Model classes for BasicSR's registry, what all of them have from here, and losses."""

from importlib.util import find_spec
from typing import Any

__all__ = ['IAFMNetModel']

if find_spec('basicsr') is not None:
    # first: it registers what is here, for which no module of this folder may be half imported
    import iafmsr.bridge.basicsr_api  # noqa: F401


def __getattr__(name: str) -> Any:
    """The model class is imported when it is asked for: it takes the seconds of BasicSR's import."""
    if name != 'IAFMNetModel':
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from iafmsr.models.iafmnet_model import IAFMNetModel

    return IAFMNetModel
