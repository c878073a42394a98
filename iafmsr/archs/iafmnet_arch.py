"""IAFMNet: information-aware feature modulation for efficient super-resolution (Xu et al., CVPR 2026)."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from iafmsr.archs.hub import HubNet, also_of
from iafmsr.layers.arm import ARM
from iafmsr.layers.cgfn import FFNS
from iafmsr.layers.density import Density
from iafmsr.layers.difference import DifferenceConv2d
from iafmsr.layers.enlargement import enlarge
from iafmsr.layers.guidance import Guidance
from iafmsr.layers.idm import MAPS, InformationDensity, Maps
from iafmsr.layers.igra import IGRA, POOL_SIZE, down
from iafmsr.layers.norm import build_norm
from iafmsr.layers.precision import ExactConv2d, in_autocast
from iafmsr.layers.routing import Gathered, Guided, Masked, Router
from iafmsr.layers.upsampler import UPSAMPLERS
from iafmsr.ops.sites import ActiveSites
from iafmsr.ops.submanifold import SubmanifoldConv2d
from iafmsr.ops.torch_names import is_compiling

_SCALES = (1, 2, 3, 4, 8)
_SSCONVS = ('shared', 'own', 'none')


class IFEM(nn.Module):
    """Information-guided feature enhancement: F1, F2 = split(Conv1x1(x)); IGRA(F1) + ARM(F2)."""

    def __init__(self, num_feat: int, num_guide: int, guidance: str, attention: str, arm: str) -> None:
        super().__init__()
        self.expand = nn.Conv2d(num_feat, 2 * num_feat, 1)
        self.igra = IGRA(num_feat, attention, guidance, num_guide)
        self.arm = ARM(num_feat, arm, num_guide)

    def forward(self, x: Tensor, by: Guided, ssconv: SubmanifoldConv2d | None) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        f1, f2 = self.expand(x).chunk(2, dim=1)
        refined = by.route.spatial(self.igra, f1, by.guide_down, by.sites, ssconv)
        return refined + self.arm(f2, by.guide, by.route)


class IFEB(nn.Module):
    """Information-guided feature enhancement block: x = x + IFEM(norm(x)); x = x + CGFN(norm(x))."""

    def __init__(
        self,
        num_feat: int,
        num_guide: int,
        guidance: str,
        *,
        ffn_scale: float = 3.2,
        norm: str = 'l2',
        attention: str = 'figure',
        arm: str = 'full',
        ffn: str = 'cgfn',
    ) -> None:
        super().__init__()
        self.norm1, self.norm2 = build_norm(norm, num_feat), build_norm(norm, num_feat)
        self.ifem = IFEM(num_feat, num_guide, guidance, attention, arm)
        self.cgfn = FFNS.find(ffn)(num_feat, ffn_scale)

    def forward(self, x: Tensor, by: Guided, ssconv: SubmanifoldConv2d | None) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        x = x + self.ifem(self.norm1(x), by, ssconv)
        return x + self.cgfn(self.norm2(x), by.route)


_OF_BLOCK = {p.name for p in inspect.signature(IFEB).parameters.values() if p.kind is p.KEYWORD_ONLY}


class IAFMNet(HubNet):
    """IAFMNet of figure 3: ``net(lq)`` is the image, ``net(lq, return_density=True)`` the image and its density.

    ::

        lq -> head -> F0 -> InformationDensity -> mu, theta, guide, mask
              F0 -> N x IFEB(., guide, mask) -> (.) guide -> (+) mu -> upsampler -> sr

    Where the paper gives no detail or its literal form does not work (docs/method.md), the defaults are ours. For
    figure 3 exactly as drawn, see ``literal`` in ``options/ablation.yml``.

    Args:
        scale (int): 1 (restoration), 2, 3, 4 or 8.
        num_in_ch, num_out_ch (int): image channels.
        num_feat (int): width C.
        num_block (int): number N of IFEBs.
        k (float): share of active sites, in (0, 1]; 0.05 in the paper.
        ide, ide_kernel_size, gdn, gain, idm_unit, detach_idm, detach_features, guide, mask, k_of: see
            :class:`~iafmsr.layers.idm.InformationDensity`.
        guidance (str): how the guide enters, see :class:`~iafmsr.layers.guidance.Guidance`.
        ssconv (str): the sparse kernel: one ``shared`` by all blocks, each block's ``own``, or ``none``.
        ffn_scale (float): hidden width of the CGFN, divided by C.
        norm (str): the norm before IFEM and before CGFN: ``none`` (as in the figure), ``l2`` or ``layer``.
        attention (str): ``figure``, ``text`` or ``no_idm``, see :class:`~iafmsr.layers.igra.IGRA`.
        arm (str): ``full``, ``no_idm`` or ``off``, see :class:`~iafmsr.layers.arm.ARM`.
        ffn (str): ``cgfn``. A package can add forms of ffn, attention, guide and upsampler, see
            :class:`~iafmsr.layers.registry.Forms`.
        upsampler (str): ``pixelshuffle``, ``transposed``, ``nearest_conv`` or ``decomposed``, see
            :mod:`iafmsr.layers.upsampler`.
        residual (bool): True: the net sees only the differences between pixels, and adds its output to the bicubic
            enlargement, so that a flat picture of any colour stays flat. False: as in the figure.
        num_routed (int): number of routed blocks, 0 to ``num_block``: these last blocks work only at positions that a
            map selects, see :class:`~iafmsr.layers.routing.Router`. Not in the paper.
        least_budget (float): smallest share of positions that the routed blocks work at in training, in (0, 1].
        route_map (str): the map that selects them: ``idm``, ``sobel``, ``laplacian``, ``mean_laplacian`` or ``random``.
        budget (float): initial value of the attribute :attr:`budget`, in (0, 1].
        sparse_backend (str): see :func:`iafmsr.ops.submanifold.submanifold_conv2d`; not in the state dict.

    Raises:
        ValueError: when an argument is out of its range.

    Examples:
        >>> net = iafmsr.IAFMNet(scale=2, num_feat=8, num_block=1)
        >>> sr, density = net(torch.rand(1, 3, 9, 12), return_density=True)
        >>> sr.shape, density.idm.shape
        (torch.Size([1, 3, 18, 24]), torch.Size([1, 1, 9, 12]))
    """

    @also_of(InformationDensity, IFEB)
    def __init__(
        self,
        scale: int = 4,
        num_in_ch: int = 3,
        num_out_ch: int = 3,
        num_feat: int = 40,
        num_block: int = 6,
        k: float = 0.05,
        guidance: str = 'neutral',
        ssconv: str = 'shared',
        residual: bool = True,
        upsampler: str = 'pixelshuffle',
        num_routed: int = 0,
        least_budget: float = 0.2,
        route_map: str = 'idm',
        budget: float = 1.0,
        sparse_backend: str = 'auto',
        **parts: Any,
    ) -> None:
        super().__init__()
        _check(scale, ssconv, num_routed, num_block, route_map)
        self.sparse_backend = sparse_backend
        self.scale, self.residual, self.channels = scale, residual, num_in_ch
        self.num_block, self.num_routed, self.route_map = num_block, num_routed, route_map
        self.budget = budget
        if num_routed:
            self.router = Router(least_budget)
        self.head = _head(num_in_ch, num_feat, residual)
        of_block = {name: parts.pop(name) for name in _OF_BLOCK & parts.keys()}
        self.density = InformationDensity(num_feat, k, **parts)
        num_guide = self.density.num_guide
        self.blocks = nn.ModuleList(IFEB(num_feat, num_guide, guidance, **of_block) for _ in range(num_block))
        kernels = {'shared': 1, 'own': num_block, 'none': 0}[ssconv]
        self.ssconvs = nn.ModuleList(SubmanifoldConv2d(num_feat, 3, sparse_backend) for _ in range(kernels))
        self.fusion = Guidance(num_feat, guidance, num_guide)
        self.tail = UPSAMPLERS.find(upsampler)(num_feat, num_out_ch, scale)

    def forward(
        self, lq: Tensor, return_density: bool = False, maps: tuple[Tensor, Tensor] | None = None
    ) -> Tensor | tuple[Tensor, Density]:
        """(B, 3, H, W) in [0, 1] -> (B, 3, sH, sW), for any H and W from 1; with its :class:`Density` on request.

        For a tile, pass ``maps``: the tile's part of ``self.maps(local_map, lq)`` of the whole picture.
        """
        if lq.device.type == 'cpu' and not is_compiling():
            lq = lq.contiguous(memory_format=torch.channels_last)
        f0 = self.head(lq)
        density = self.density(f0, lq, maps)
        # the density stays in float32 even if the weights are in half precision
        dtype = next(self.tail.parameters()).dtype
        x, guide, mu = in_autocast(f0.to(dtype)), density.guide.to(dtype), density.mu.to(dtype)
        by = Guided(guide, down(guide), ActiveSites(density.mask))
        steps = list(zip(self.blocks, self._kernels(), strict=True))
        for block, ssconv in steps[: self.num_block - self.num_routed]:
            x = block(x, by, ssconv)
        if self.num_routed:
            by = self._routed(by, density, lq)
            routed = by.route.enter(x)
            for block, ssconv in steps[-self.num_routed :]:
                routed = block(routed, by, ssconv)
            x = by.route.leave(routed, x)
        y = self.fusion.multiply(x, guide) + mu / self.density.gain
        sr = self.tail(y)
        if self.residual:
            sr = sr + enlarge(lq, self.scale)
        return (sr, density) if return_density else sr

    def _kernels(self) -> list[SubmanifoldConv2d | None]:
        """The sparse convolution of each block."""
        kernels: list[Any] = list(self.ssconvs) or [None]
        return kernels if len(kernels) == self.num_block else kernels * self.num_block

    def _routed(self, by: Guided, density: Density, lq: Tensor) -> Guided:
        """``by`` for the routed blocks: in the layout of the route, and without active sites outside the route."""
        if not self.training and self.budget == 1:
            return by
        mask = self.router(self.density.choose(self.route_map, density.idm, lq), self.budget)
        dense = is_compiling() or self.sparse_backend == 'dense' or not mask.any()
        route = Masked(mask) if dense else Gathered(ActiveSites(mask))
        return by._replace(guide=route.enter(by.guide), sites=ActiveSites(density.mask & mask), route=route)

    @property
    def budget(self) -> float:
        """Share of the training pictures' positions that the routed blocks work at in evaluation, in (0, 1].

        A flat picture has a smaller share, a detailed one a larger share. It can be set at any time."""
        return self._budget

    @budget.setter
    def budget(self, value: float) -> None:
        if not 0 < value <= 1:
            raise ValueError(f'budget must be in (0, 1], got {value}')
        if value < 1 and not self.num_routed:
            raise ValueError(f'budget {value}: this net has no routed blocks (num_routed)')
        self._budget = value

    def local_map(self, lq: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> the learned map (B, 1, H, W); each value depends on 9x9 pixels at most."""
        return self.density.local_map(self.head(lq))

    def maps(self, local_map: Tensor, lq: Tensor) -> Maps:
        """The :meth:`local_map` (B, 1, H, W) of the whole picture lq (B, 3, H, W) -> its final map and its mask."""
        return self.density.maps(local_map, lq)

    @property
    def margin(self) -> int:
        """Pixels around a tile that its result depends on: two 8x8 cells per block, and one for the other layers."""
        return POOL_SIZE * (2 * self.num_block + 1)


def _head(num_in_ch: int, num_feat: int, residual: bool) -> nn.Module:
    """The first convolution. It repeats the border: zero padding would look like detail and be active in the mask."""
    if residual:
        return DifferenceConv2d(num_in_ch, num_feat)
    return ExactConv2d(num_in_ch, num_feat, 3, padding=1, padding_mode='replicate')


def _check(scale: int, ssconv: str, num_routed: int, num_block: int, route_map: str) -> None:
    if not 0 <= num_routed <= num_block:
        raise ValueError(f'num_routed must be from 0 to num_block, {num_block}, got {num_routed}')
    for name, value, known in (('scale', scale, _SCALES), ('ssconv', ssconv, _SSCONVS), ('route_map', route_map, MAPS)):
        if value not in known:
            raise ValueError(f'{name} must be one of {", ".join(map(str, known))}, got {value!r}')
