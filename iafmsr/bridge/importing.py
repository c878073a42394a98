"""What BasicSR 1.4.2 needs to be imported beside a current torch, torchvision and Python."""

import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import torch


def prepare_import() -> None:
    """Lets BasicSR be imported."""
    declare_torchvision_operators()
    provide_functional_tensor()
    provide_distutils()


_kept_alive: list[torch.library.Library] = []  # a Library's declarations go when it is collected


def declare_torchvision_operators() -> None:
    """Lets torchvision be imported beside a torch of another build.

    A CUDA build of torchvision cannot load its native library beside a CPU build of torch; `import torchvision` then
    dies of `operator torchvision::nms does not exist` while it describes its operators. BasicSR's image nets use none
    of them, so their declaration alone is enough. Where the library loads, it declares them itself.
    """
    package = find_spec('torchvision')
    for folder in package.submodule_search_locations or () if package else ():
        for native in Path(folder).glob('_C*'):  # its name has changed: _C.so, then _C_stable.so
            try:
                torch.ops.load_library(native)
            except OSError:
                pass
    schemas = {
        'nms': 'nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor',
        'qnms': 'qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor',
    }
    missing = [schema for name, schema in schemas.items() if not hasattr(torch.ops.torchvision, name)]
    if missing:
        library = torch.library.Library('torchvision', 'FRAGMENT')
        for schema in missing:
            library.define(schema)
        _kept_alive.append(library)


def provide_functional_tensor() -> None:
    """Brings back `torchvision.transforms.functional_tensor`, gone since torchvision 0.17.

    BasicSR's degradations import `rgb_to_grayscale` from it; `torchvision.transforms.functional` has the same function.
    """
    name = 'torchvision.transforms.functional_tensor'
    if name in sys.modules or find_spec(name) is not None:
        return
    from torchvision.transforms.functional import rgb_to_grayscale

    module = ModuleType(name, 'Stands in for the module of this name in torchvision before 0.17.')
    vars(module)['rgb_to_grayscale'] = rgb_to_grayscale
    sys.modules[name] = module


def provide_distutils() -> None:
    """Brings back `distutils`, gone with Python 3.12, whose `LooseVersion` BasicSR's arch_util imports.

    setuptools has a copy. Its start-up file puts it in place where packages are installed as usual; where their folder
    is merely on PYTHONPATH, importing setuptools does.
    """
    if find_spec('distutils') is None:
        import setuptools  # noqa: F401
