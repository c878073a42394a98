"""The forms of a part of a network: classes that an option selects by name. Your own package can add more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from torch import nn

__all__ = ['Forms']

Form = TypeVar('Form', bound=Callable[..., nn.Module])


class Forms:
    """The classes that one keyword of IAFMNet selects from.

    Args:
        keyword (str): that keyword, for error messages.

    Examples:
        >>> from iafmsr.layers.upsampler import UPSAMPLERS
        >>> @UPSAMPLERS.register('blocky')
        ... class Blocky(nn.Sequential):
        ...     def __init__(self, num_feat, num_out_ch, scale):
        ...         super().__init__(nn.Conv2d(num_feat, num_out_ch, 1), nn.Upsample(scale_factor=scale))
        >>> iafmsr.IAFMNet(scale=2, num_feat=8, num_block=1, upsampler='blocky')(torch.rand(1, 3, 4, 4)).shape
        torch.Size([1, 3, 8, 8])
    """

    def __init__(self, keyword: str) -> None:
        self.keyword = keyword
        self._forms: dict[str, Any] = {}

    def register(self, name: str) -> Callable[[Form], Form]:
        """A decorator that registers a class under ``name``.

        Raises:
            ValueError: when the name is registered already.
        """
        if name in self._forms:
            raise ValueError(f'{self.keyword} {name!r} is registered already')

        def add(form: Form) -> Form:
            self._forms[name] = form
            return form

        return add

    def find(self, name: str) -> Any:
        """The class called ``name``.

        Raises:
            ValueError: when no class has this name.
        """
        if name not in self._forms:
            raise ValueError(f'{self.keyword} must be one of {", ".join(self._forms)}, got {name!r}')
        return self._forms[name]
