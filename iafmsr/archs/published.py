"""Networks of other authors, written anew here, that load those authors' own weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

from torch import nn

Value = TypeVar('Value')


class PublishedNet(nn.Module):
    """A network whose ``load_state_dict`` also takes its authors' weights, whoever calls it: training, test, benchmark.

    Subclasses give ``published_names``: regular expressions of the authors' names (a whole name or its beginning or
    end, marked by ``^`` and ``$``) and what takes their place. Names that are ours already stay as they are, and what
    has no name left is a constant here, and left out.
    """

    published_names: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def renamed(cls, state_dict: Mapping[str, Value]) -> dict[str, Value]:
        """The same values under our names."""

        def rename(name: str) -> str:
            for theirs, ours in cls.published_names.items():
                name = re.sub(theirs, ours, name)
            return name

        return {ours: value for name, value in state_dict.items() if (ours := rename(name))}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As torch's, under our names or the authors'."""
        return super().load_state_dict(self.renamed(state_dict), strict=strict, assign=assign)
