"""Tiny networks with everything that trips exporters: GroupNorm, nearest upsampling to a skip's size, two outputs."""
import pytest
import torch
import torch.nn.functional as F
from torch import nn


class TinyEncoder(nn.Module):
    """One tensor in, a list of two feature maps out."""

    def __init__(self, dims, channels=3):
        super().__init__()
        conv = nn.Conv2d if dims == 2 else nn.Conv3d
        self.first, self.norm = conv(channels, 8, 3, padding=1), nn.GroupNorm(4, 8)
        self.second = conv(8, 16, 3, stride=2, padding=1)

    def forward(self, image):
        shallow = F.silu(self.norm(self.first(image)))
        return [shallow, F.silu(self.second(shallow))]


class TinyNet(nn.Module):
    """Logits ``[B, 1, *S]`` and a score ``[B, 1]``."""

    def __init__(self, dims):
        super().__init__()
        conv = nn.Conv2d if dims == 2 else nn.Conv3d
        self.image_encoder = TinyEncoder(dims)
        self.mix, self.norm = conv(24, 8, 3, padding=1), nn.GroupNorm(4, 8)
        self.head, self.score = conv(8, 1, 1), nn.Linear(16, 1)

    def forward(self, image):
        shallow, deep = self.image_encoder(image)
        up = F.interpolate(deep, size=shallow.shape[2:], mode="nearest")
        value = F.silu(self.norm(self.mix(torch.cat([shallow, up], 1))))
        return self.head(value), torch.sigmoid(self.score(deep.flatten(2).mean(-1)))


@pytest.fixture(scope="session")
def nets():
    """``{2: (module, example), 3: (module, example)}``."""
    torch.manual_seed(0)
    made = {}
    for dims in (2, 3):
        net = TinyNet(dims).eval()
        net.head.bias.data.fill_(0.3)  # keep the logits away from a threshold right in their middle
        made[dims] = (net, (torch.randn(1, 3, *(16, 20, 12)[:dims]),))
    return made


@pytest.fixture
def engine_cache(tmp_path, monkeypatch):
    """An empty engine cache; returns its folder."""
    monkeypatch.setenv("PROMPTZOO_CACHE", str(tmp_path))
    return tmp_path / "engines"
