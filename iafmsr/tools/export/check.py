"""The engines in which an exported network is checked."""

from __future__ import annotations

from iafmsr.errors import UserError
from iafmsr.nets.compiled import refusal
from iafmsr.nets.engines import EngineNet, engine_net

__all__ = ['engines_for']


def engines_for(content: bytes, engine: str) -> dict[str, EngineNet]:
    """A graph in the engine that is named, or for ``auto`` in each that is installed.

    Raises:
        UserError: there is none, or it does not take the graph.
    """
    names = ['onnxruntime', 'openvino']
    if engine != 'auto':
        names = [engine]
    elif refusal(names[0]) is None or refusal(names[1]) is None:
        names = [name for name in names if refusal(name) is None]
    try:
        return {name: engine_net(content, name) for name in names}
    except UserError as error:
        raise UserError(f'the exported net cannot be checked: {error}') from None
