"""Networks saved in the format of Hugging Face's tools: in a folder, or in a repository of the hub."""

from __future__ import annotations

import copy
import inspect
import os
from collections.abc import Callable
from typing import Any, TypeVar

from torch import nn

from iafmsr.errors import UserError

__all__ = ['HubNet', 'also_of']

Net = TypeVar('Net', bound='HubNet')
Init = TypeVar('Init', bound=Callable[..., None])


def also_of(*parts: Any) -> Callable[[Init], Init]:
    """A decorator for a constructor that passes ``**keywords`` on to its parts: adds their names to its signature."""

    def name_all(init: Init) -> Init:
        signature = inspect.signature(init)
        named = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        for part in parts:
            named += [p for p in inspect.signature(part).parameters.values() if p.kind is p.KEYWORD_ONLY]
        init.__signature__ = signature.replace(parameters=named)  # type: ignore[attr-defined]
        return init

    return name_all


class HubNet(nn.Module):
    """A network with ``from_pretrained`` and ``save_pretrained``, which use huggingface_hub's mixin.

    The mixin is imported only when one of the two is called, because the import takes half a second.

    Attributes:
        keywords (dict): what the constructor was called with, defaults included.
    """

    keywords: dict[str, Any]

    def __new__(cls, *args: Any, **keywords: Any) -> Any:
        net = super().__new__(cls)
        if args or keywords or cls.__init__ is not nn.Module.__init__:
            given = inspect.signature(cls.__init__).bind_partial(net, *args, **keywords)
            given.apply_defaults()
            net.__dict__['keywords'] = dict(list(given.arguments.items())[1:])
        return net

    @classmethod
    def from_pretrained(cls: type[Net], name: str | os.PathLike[str], **keywords: Any) -> Net:
        """A network with its weights, in evaluation mode.

        Args:
            name: a folder written by :meth:`save_pretrained`, or the id of a repository of the hub.
            keywords: for the mixin (``revision``, ``token``, ``local_files_only`` ...) or the network's constructor.

        Raises:
            UserError: huggingface_hub or safetensors is not installed.
        """
        net: Any = super(HubNet, _mixed(cls)).from_pretrained(os.fspath(name), **keywords)  # type: ignore[misc]
        net.__class__ = cls
        return net

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write ``config.json`` and ``model.safetensors`` into a folder, which is created if it is missing.

        Raises:
            UserError: huggingface_hub or safetensors is not installed.
        """
        mixed = copy.copy(self)
        mixed.__class__ = _mixed(type(self))
        # sparse_backend is not saved: it is chosen for each run
        config = {key: value for key, value in self.keywords.items() if key != 'sparse_backend'}
        mixin: Any = super(HubNet, mixed)
        mixin.save_pretrained(os.fspath(folder), config={'type': type(self).__name__, **config})


def _mixed(cls: type[Net]) -> Any:
    """A subclass of ``cls`` with huggingface_hub's mixin."""
    try:
        import safetensors  # noqa: F401
        from huggingface_hub import PyTorchModelHubMixin
    except ImportError as error:
        raise UserError(f"{error.name} is not installed; install the extra 'hub'") from None
    return type(cls.__name__, (cls, PyTorchModelHubMixin), {})
