"""IAFMNet's parts in another network."""

import pytest
import torch
from basicsr.archs.edsr_arch import EDSR

from iafmsr.archs.edsr_idm_arch import EDSRIDM

SMALL = {'num_feat': 8, 'num_block': 2}


def test_without_parts_it_is_edsr_away_from_the_border():
    torch.manual_seed(0)
    net, edsr = EDSRIDM(**SMALL, arm=False), EDSR(3, 3, **SMALL)
    edsr.load_state_dict({k: v for k, v in net.state_dict().items() if not k.startswith('density')})
    lq = torch.rand(2, 3, 32, 33)
    inside = (..., slice(48, -48), slice(48, -48))  # beyond the reach of the convolutions, 10 LR pixels
    torch.testing.assert_close(net(lq)[inside], edsr(lq)[inside])


@pytest.mark.parametrize('parts', [{'arm': True}, {'arm': False, 'igra': True}, {'igra': True}], ids=str)
def test_gradients_reach_every_parameter_and_the_map_guides(parts):
    torch.manual_seed(0)
    net, lq = EDSRIDM(**SMALL, **parts, guide='density', detach_idm=False), torch.rand(2, 3, 24, 24)
    sr, density = net(lq, return_density=True)
    assert sr.shape == (2, 3, 96, 96) and density.idm.shape == (2, 1, 24, 24)
    sr.sum().backward()
    missing = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert missing == []
