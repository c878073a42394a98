"""The check that networks, losses and pictures have the same number of channels."""

from __future__ import annotations

import inspect

from iafmsr.bridge.basicsr_api import ARCH_REGISTRY, RealESRGANModel, RealESRNetModel
from iafmsr.models.channels import channels_of
from iafmsr.models.iafmnet_model import IAFMNetModel
from iafmsr.models.losses.terms import entries
from iafmsr.training.checks.findings import Findings, subsection

_REAL = (RealESRNetModel, RealESRGANModel)  # their degradations are of three channels


class ChannelCheck(Findings):
    def channels(self, model: type) -> None:
        """What a network of one channel needs, and that no other gets gray pictures."""
        taken = self.network_channels('network_g')
        if taken is None:
            return
        makes_gray = issubclass(model, IAFMNetModel) and taken == 1 and not issubclass(model, _REAL)
        for phase, dataset in subsection(self.opt, 'datasets').items():
            if not isinstance(dataset, dict):
                continue
            where, given = f'datasets.{phase}', 1 if dataset.get('color') == 'y' else 3
            if makes_gray and given == 1:
                self.fault(
                    f'{where}.color',
                    'y gives gray values from 16 to 235; leave it out: a network of one channel gets values from 0 '
                    'to 255',
                )
            elif given != taken and not makes_gray:
                remedy = '; model_type: IAFMNetModel makes them gray' if taken == 1 else ''
                self.fault(where, f'its pictures have {given} channels, network_g takes {taken}{remedy}')
        if taken == 1:
            self.of_one_channel()

    def of_one_channel(self) -> None:
        """What does not go with gray pictures: networks of three channels, and losses of colours."""
        if self.network_channels('network_d') not in (1, None):
            self.fault('network_d', 'takes 3 channels, network_g gives 1')
        for entry in entries(self.train):
            if 'layer_weights' in entry.section:
                self.fault(entry.where, 'its network takes pictures of 3 channels, network_g gives 1')

    def network_channels(self, where: str) -> int | None:
        """Of the pictures that a network takes; a fault where it gives others."""
        network = subsection(self.opt, where)
        taken = channels_of(network)
        if taken is not None and where == 'network_g':
            parameters = inspect.signature(dict(iter(ARCH_REGISTRY))[network['type']]).parameters
            default = parameters['num_out_ch'].default if 'num_out_ch' in parameters else taken
            given = network.get('num_out_ch', default)
            if type(given) is int and given != taken:
                self.fault(f'{where}.num_out_ch', f'{given}, but num_in_ch is {taken}')
        return taken
