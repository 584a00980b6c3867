"""Tokens learn to retell prompt maps, and a decoder learns from windows that were encoded once."""
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from promptzoo.core.errors import PromptZooError
from promptzoo.core.seeding import generator
from promptzoo.networks.sam3d import PromptableVolume
from promptzoo.training.annotator import WindowAnnotator
from promptzoo.training.dataset import ProceduralDataset, concatenate
from promptzoo.training.kept_windows import KeptWindows, encoded_of
from promptzoo.training.sam3d import VolumeLoss, VolumeUpdate
from promptzoo.training.token_retelling import TOLD, RetellingUpdate, click_anywhere, map_errors

CLICKED = WindowAnnotator(first=(0.0, 1.0, 0, 0, 0))


@pytest.fixture
def engine():
    """What ignite gives to an update, around a tiny network."""
    torch.manual_seed(0)
    network = PromptableVolume((8, 8, 8, 8, 8), 16, maps=False)
    return SimpleNamespace(network=network, loss_function=VolumeLoss(), fire_event=lambda _: None,
                           optimizer=torch.optim.AdamW(network.parameters(), 3e-3),
                           state=SimpleNamespace(device=torch.device("cpu"), iteration=1))


@pytest.fixture
def kept(engine):
    """Two scenes of two targets, kept as the network sees them."""
    return KeptWindows(ProceduralDataset(3, 2, targets_per_scene=2, size=32, seed=5), engine.network, 2, 8)


def test_kept_windows_are_encoded_once_and_as_they_would_be_now(engine, kept):
    calls, encoder = [], engine.network.image_encoder.forward
    engine.network.image_encoder.forward = lambda image: calls.append(len(image)) or encoder(image)
    items = [kept[n] for n in range(8)]
    assert len(calls) <= 2 and torch.equal(kept[3]["image"], items[3]["image"])
    assert items[0]["image"].shape == (1, 1, 32, 32, 32) and items[0]["label"].dtype == torch.bool
    batch = concatenate(items[:3])
    with torch.no_grad():
        wanted = encoder(batch["image"])
    found = encoded_of(batch, "cpu")
    assert len(found) == len(wanted)
    assert all(torch.allclose(one, other, atol=0.02) for one, other in zip(found, wanted))
    assert encoded_of({"image": batch["image"]}, "cpu") is None


@pytest.mark.parametrize("count, length", [(0, 4), (3, 4), (1, 0)])
def test_kept_windows_that_cannot_be_are_refused(count, length):
    with pytest.raises(PromptZooError, match="kept scenes"):
        KeptWindows(ProceduralDataset(3, 2, size=32), None, count, length)


def test_errors_of_maps_by_hand():
    dense, attended = torch.zeros(1, 12, 8, 8, 8), torch.zeros(1, 16, 2, 2, 2)
    dense[0, 3, :4] = 1.0
    errors, energy = map_errors(attended, dense)
    assert errors.tolist() == energy.tolist() and float(energy[3]) == 4.5 and float(energy.sum()) == 4.5
    attended[0, 3, 0] = 3.0
    assert not map_errors(attended, dense)[0].any() and 0 not in TOLD


def test_tokens_learn_where_they_point_and_nothing_else_changes(engine, kept):
    before = {name: value.clone() for name, value in engine.network.state_dict().items()}
    update, losses = RetellingUpdate(CLICKED, more_clicks=0.0), []
    for n in range(40):
        engine.state.iteration = n % 4 + 1
        losses.append(update(engine, concatenate([kept[m] for m in range(4)]))["loss"])
    assert np.mean(losses[-4:]) < 0.8 * np.mean(losses[:4]), (losses[:4], losses[-4:])
    changed = {name.split(".")[0] for name, value in engine.network.state_dict().items()
               if not torch.equal(value, before[name])}
    assert changed == {"tokens", "own", "transformer"}


def test_a_decoder_trains_on_kept_windows_without_the_encoder(engine, kept):
    batch = concatenate([kept[n] for n in range(2)])
    engine.network.image_encoder.forward = lambda image: pytest.fail("encoded again")
    before = engine.network.mask_decoder.lift.weight.clone()
    told = VolumeUpdate(CLICKED, rounds=(1.0,), amp=False, retell=1.0)(engine, batch)
    assert np.isfinite(told["loss"]) and not torch.equal(engine.network.mask_decoder.lift.weight, before)


def test_more_clicks_lie_where_they_say():
    session = CLICKED.start(np.pad(np.ones((4, 4, 4), bool), 6), generator(0))
    session.positive.clear()
    for n in range(20):
        click_anywhere(session, generator(1, n))
    assert session.positive and session.negative
    assert all(session.truth[tuple(at.astype(int))] for at in session.positive)
    assert not any(session.truth[tuple(at.astype(int))] for at in session.negative)
