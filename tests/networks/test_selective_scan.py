"""The scan in chunks is the recurrence step by step, in both directions and in every order of the cells."""
import pytest
import torch

from promptzoo.core.errors import BundleError
from promptzoo.networks.selective_scan import WAYS, ScanBlock, selective_scan


def naive(value, rate, key, query):
    """The recurrence, one step after the other."""
    batch, heads, length, width = value.shape
    state, found = torch.zeros(batch, heads, key.shape[-1], width, dtype=value.dtype), []
    for t in range(length):
        written = key[:, None, t, :, None] * value[:, :, t, None, :]
        state = torch.exp(rate[:, :, t])[..., None, None] * state + written
        found.append((query[:, None, t, :, None] * state).sum(-2))
    return torch.stack(found, 2)


@pytest.fixture
def inputs():
    """Random sequences of 50 steps."""
    torch.manual_seed(0)
    value, key, query = torch.randn(2, 3, 50, 5), torch.randn(2, 50, 4), torch.randn(2, 50, 4)
    return value.double(), -torch.rand(2, 3, 50).double() * 3, key.double(), query.double()


@pytest.mark.parametrize("chunk", [1, 7, 16, 50, 64])
def test_chunks_give_what_single_steps_give(inputs, chunk):
    assert torch.allclose(selective_scan(*inputs, chunk=chunk), naive(*inputs), atol=1e-10)


def test_gradients_are_those_of_single_steps(inputs):
    grads = []
    for scan in (lambda *a: selective_scan(*a, chunk=16), naive):
        leaves = [t.clone().requires_grad_() for t in inputs]
        (scan(*leaves) ** 2).sum().backward()
        grads.append([leaf.grad for leaf in leaves])
    assert all(torch.allclose(a, b, rtol=1e-6, atol=1e-8) for a, b in zip(*grads))


def test_long_sequences_of_fast_decay_stay_finite():
    value = torch.ones(1, 1, 4096, 2)
    found = selective_scan(value, torch.full((1, 1, 4096), -40.0), torch.ones(1, 4096, 2), torch.ones(1, 4096, 2))
    assert torch.isfinite(found).all() and found[0, 0, -1, 0] == pytest.approx(2.0)


def _reach(ways, place=(3, 3)):
    """Cells that a change at one cell reaches through the scans alone."""
    torch.manual_seed(1)
    block = ScanBlock(8, heads=2, state=4, ways=ways).eval()
    with torch.no_grad():
        block.local.weight.zero_()
        block.local.weight[:, 0, 1, 1] = 1.0
        first = torch.randn(1, 8, 6, 7)
        second = first.clone()
        second[0, 0, place[0], place[1]] += 1.0  # a shift of all features would vanish in the norm
        return (block(first) - block(second)).abs().amax((0, 1)) > 1e-7


def test_a_raster_scan_reaches_every_cell_and_axial_scans_a_cross():
    assert _reach("raster").all()
    cross = torch.zeros(6, 7, dtype=torch.bool)
    cross[3], cross[:, 3] = True, True
    assert torch.equal(_reach("axial"), cross)


@pytest.mark.parametrize("ways", WAYS)
def test_gradients_reach_all_parameters(ways):
    block = ScanBlock(8, heads=2, state=4, ways=ways)
    block(torch.randn(2, 8, 6, 7)).square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in block.parameters())


@pytest.mark.parametrize("wrong", [{"ways": "spiral"}, {"heads": 3}])
def test_blocks_that_cannot_be(wrong):
    with pytest.raises(BundleError, match="scan block"):
        ScanBlock(8, **wrong)
