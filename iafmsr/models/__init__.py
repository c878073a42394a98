"""Model classes for BasicSR's registry, the code that they share, and losses."""

from importlib.util import find_spec
from typing import Any

__all__ = ['IAFMNetModel']

if find_spec('basicsr') is not None:
    # first: it registers the classes of this folder, so none of its modules may be half imported
    import iafmsr.bridge.basicsr_api  # noqa: F401


def __getattr__(name: str) -> Any:
    """Import the model class only when it is used, because importing BasicSR takes seconds."""
    if name != 'IAFMNetModel':
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from iafmsr.models.iafmnet_model import IAFMNetModel

    return IAFMNetModel
