"""The SAM-like networks for volumes: shapes, axis order, prompts, what they inherit, and the inflated 2D encoder."""
import numpy as np
import pytest
import torch

from promptzoo.core.errors import BundleError
from promptzoo.engines.signal_stack import kept_signal_stack
from promptzoo.networks.deltas import delta_of
from promptzoo.networks.inflated import InflatedEncoder, InflatedVolume, on_slices
from promptzoo.networks.interactive_unet import InteractiveUNet
from promptzoo.networks.sam import DecoderForward, PromptableSam
from promptzoo.networks.sam3d import PromptableVolume, sample_volume, without_places
from promptzoo.networks.warm_start import start_from
from promptzoo.prompts.encoders.tokens import DENSE_CHANNELS

SMALL = {"channels": (8, 16, 16, 24, 24), "hidden": 32}
KINDS = {"native": PromptableVolume, "inflated": InflatedVolume}


@pytest.fixture(scope="module", params=sorted(KINDS))
def network(request):
    """A small network of each kind in eval mode, none of whose paths is silent."""
    torch.manual_seed(0)
    network = KINDS[request.param](**SMALL).eval()
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return network


def prompt(batch=1, side=64, at=((20.0, 30.0, 40.0),), kind=1.0):
    """Points, labels and an empty dense map."""
    points, labels = torch.zeros(batch, 16, 3), torch.full((batch, 16), -1.0)
    points[:, :len(at)], labels[:, :len(at)] = torch.tensor(at), kind
    return points, labels, torch.zeros(batch, 12, side // 2, side // 2, side // 2)


def test_shapes(network):
    with torch.inference_mode():
        encoded = network.image_encoder(torch.randn(2, 1, 64, 64, 64))
        logits, iou = network.decode(*encoded, *prompt(2))
    assert [tuple(part.shape[1:]) for part in encoded] == [
        (8, 32, 32, 32), (16, 16, 16, 16), (16, 8, 8, 8), (24, 4, 4, 4), (24, 2, 2, 2), (32, 8, 8, 8), (8, 64, 64, 64)]
    assert logits.shape == (2, 1, 64, 64, 64) and iou.shape == (2, 1) and bool(((iou >= 0) & (iou <= 1)).all())


def test_windows_need_not_be_cubes(network):
    with torch.inference_mode():
        assert network(torch.randn(1, 1, 32, 64, 96)).shape == (1, 1, 32, 64, 96)


def test_a_point_is_in_the_order_of_the_image_s_axes(network):
    """With image and points transposed together the visual sampler sees the same feature."""
    features = torch.zeros(1, 2, 4, 5, 6)
    features[0, 0, 1, 2, 3], features[0, 1, 3, 0, 5] = 1.0, 2.0
    at = torch.tensor([[[1.0, 2.0, 3.0], [3.0, 0.0, 5.0], [3.0, 2.0, 1.0], [1.5, 2.0, 3.0], [9.0, -4.0, 9.0]]])
    seen = sample_volume(features, at)[0]
    assert seen.tolist() == [[1, 0], [0, 2], [0, 0], [0.5, 0], [0, 2]]
    turned = sample_volume(features.permute(0, 1, 4, 2, 3), at[..., [2, 0, 1]])
    assert torch.equal(turned[0], seen)


def test_the_code_of_a_point_is_that_of_its_cell(network):
    """A click on the centre of a cell has the cell's own position code, axis by axis."""
    grid = network.tokens.grid(torch.zeros(1, 32, 8, 8, 8))
    place = (torch.tensor([8 * 2 + 3.5, 8 * 5 + 3.5, 8 * 7 + 3.5]) + 0.5) / 64
    assert torch.allclose(network.tokens.code(place), grid[0, :, 2, 5, 7], atol=1e-5)
    assert not torch.allclose(network.tokens.code(place), grid[0, :, 7, 5, 2], atol=1e-2)


def test_prompts_matter_and_padding_does_not(network):
    encoded = network.image_encoder(torch.randn(1, 1, 64, 64, 64))
    points, labels, dense = prompt()
    moved, hidden = points.clone(), points.clone()
    moved[:, 0, 0] += 16
    hidden[:, 5] = 33.0
    with torch.inference_mode():
        first, other, same = (network.decode(*encoded, p, labels, dense)[0] for p in (points, moved, hidden))
        signed = network.decode(*encoded, points, labels * 0 - (labels < 0).float(), dense)[0]
        mapped = network.decode(*encoded, points, labels, dense + 0.5)[0]
    assert torch.equal(first, same)
    assert all(float((first - answer).abs().max()) > 1e-3 for answer in (other, signed, mapped))


def test_attention_begins_with_what_is_near_and_alike():
    """Before any training an image cell's attention to a click falls with the distance of places and of features."""
    torch.manual_seed(0)
    network = PromptableVolume(**SMALL).eval()
    embedding = torch.zeros(1, 32, 8, 8, 8)
    embedding[:, :16, :4], embedding[:, 16:, 4:] = 1.0, 1.0  # two tissues
    points, labels, _ = prompt(at=((11.5, 27.5, 27.5),))
    seen = network.transformer.layers[0].cross_attn_image_to_token
    token = network.tokens(embedding, points, labels)[:, 8:9]
    with torch.inference_mode():
        cells = (embedding + network.tokens.grid(embedding)).flatten(2).transpose(1, 2)
        likeness = (seen.q_proj(cells) @ seen.k_proj(token).transpose(1, 2)).reshape(8, 8, 8)
    assert likeness[1, 3, 3] > likeness[1, 3, 7] > likeness[6, 3, 7]
    assert float(likeness[:4].mean()) > float(likeness[4:].mean())


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_clicks_can_be_told_by_their_tokens_alone(kind):
    """Of the dense maps only the earlier mask and the lasso are read then; with all maps the others count too."""
    torch.manual_seed(0)
    network = KINDS[kind](**SMALL, maps=False).eval()
    torch.nn.init.normal_(network.mask_decoder.told.weight)
    points, labels, dense = prompt(side=32, at=((9.0, 20.0, 12.0),))
    encoded = network.image_encoder(torch.randn(1, 1, 32, 32, 32))
    read = []
    with torch.inference_mode():
        for maps in (False, True):
            network.maps = maps
            plain = network.decode(*encoded, points, labels, dense)[0]
            for channel, name in enumerate(DENSE_CHANNELS):
                told = dense.clone()
                told[:, channel] = 0.5
                if not torch.equal(network.decode(*encoded, points, labels, told)[0], plain):
                    read.append((maps, name))
    assert [name for maps, name in read if not maps] == ["previous", "lasso"]
    assert [name for maps, name in read if maps] == list(DENSE_CHANNELS)
    assert set(without_places(torch.ones_like(dense)).sum((0, 2, 3, 4)).tolist()) == {0.0, 16.0 ** 3}


def test_an_early_fusion_network_is_a_start(tmp_path):
    """Encoder, decoder and head are the relative's, its prompt channels meet maps of half the resolution."""
    relative = InteractiveUNet(3, SMALL["channels"])
    torch.save(relative.state_dict(), tmp_path / "model.pt")
    torch.manual_seed(0)
    network = start_from(PromptableVolume(**SMALL), str(tmp_path / "model.pt"))
    stem = relative.image_encoder.stem
    assert torch.equal(network.image_encoder.stem.weight, stem.weight[:, :1])
    for name, value in relative.decoder.state_dict().items():
        assert torch.equal(network.mask_decoder.blocks.state_dict()[name], value)
    for name, value in relative.image_encoder.levels[2].state_dict().items():
        assert torch.equal(network.dense.levels[1].state_dict()[name], value)
    flat = torch.nn.functional.interpolate(torch.randn(1, 12, 4, 4, 4), scale_factor=2)  # constant in coarse voxels
    fused = torch.cat([torch.zeros(1, 1, 8, 8, 8), flat], 1)
    ours = network.dense.first(flat[..., ::2, ::2, ::2]) + stem.bias[:, None, None, None]
    assert torch.allclose(ours, stem(fused), atol=1e-5)


def test_the_inflated_encoder_is_the_2d_one_on_every_slice(tmp_path):
    """Before its adapters are trained, and on a volume that is constant across slices, it says what the 2D one says."""
    base = PromptableSam(size=64, channels=SMALL["channels"], hidden=32)
    torch.save(base.state_dict(), tmp_path / "model.pt")
    network = start_from(InflatedVolume(**SMALL), str(tmp_path / "model.pt")).eval()
    image = torch.randn(1, 1, 64, 64)
    with torch.inference_mode():
        value = base.image_encoder.stem(image)
        found = network.image_encoder(image[..., None].expand(-1, -1, -1, -1, 64))
        for level, volume in zip(base.image_encoder.levels, found):
            value = level(value)
            assert torch.allclose(volume, value[..., None].expand_as(volume), atol=1e-4)


def test_only_the_2d_encoder_is_frozen_and_it_is_not_part_of_the_delta(tmp_path):
    base = PromptableSam(size=64, channels=SMALL["channels"], hidden=32)
    (tmp_path / "base" / "models").mkdir(parents=True)
    place = tmp_path / "base" / "models" / "model.pt"
    torch.save({name: value.half() for name, value in base.state_dict().items()}, place)
    network = start_from(InflatedVolume(**SMALL), str(place))
    frozen = {name for name, value in network.named_parameters() if not value.requires_grad}
    assert frozen and all(name.startswith(("image_encoder.stem", "image_encoder.levels")) for name in frozen)
    assert set(delta_of(network, place)) == set(network.state_dict()) - frozen


def test_slices_lie_across_the_last_axis():
    volume = torch.randn(2, 3, 8, 6, 4)
    shifted = on_slices(lambda flat: flat[:, :1] + torch.arange(6.0), volume)
    assert shifted.shape == (2, 1, 8, 6, 4)
    assert torch.allclose(shifted[1, 0, 2, 5, 3], volume[1, 0, 2, 5, 3] + 5)


def test_information_crosses_slices_only_through_adapters():
    torch.manual_seed(0)
    encoder = InflatedEncoder((8, 8, 8, 8, 8), 8, 8).eval()
    image, other = torch.zeros(2, 1, 1, 64, 64, 64).unbind()
    other[..., 0] = 1.0
    with torch.inference_mode():
        before = (encoder(other)[0] - encoder(image)[0]).abs().amax((0, 1, 2, 3))
        torch.nn.init.normal_(encoder.adapters[0].up.weight)
        after = (encoder(other)[0] - encoder(image)[0]).abs().amax((0, 1, 2, 3))
    assert before[0] > 0 and not before[1:].any() and after[1] > 0


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_parts_answer_on_openvino_as_on_torch(kind):
    openvino = pytest.importorskip("openvino")
    torch.manual_seed(1)
    network = KINDS[kind](**SMALL).eval()
    image, told = torch.randn(1, 1, 64, 64, 64), prompt()
    with torch.inference_mode():
        encoded = [part.clone() for part in network.image_encoder(image)]
        wanted = network.decode(*encoded, *told)
        parts = [(network.image_encoder, (image,), encoded), (DecoderForward(network), (*encoded, *told), wanted)]
        for module, example, outputs in parts:
            model = openvino.convert_model(module.eval(), example_input=example)
            with kept_signal_stack():
                compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
            found = compiled([part.numpy() for part in example])
            for n, output in enumerate(outputs):
                assert np.abs(found[n] - output.numpy()).max() < 2e-3 * max(1.0, float(output.abs().max()))


@pytest.mark.parametrize("wrong", [{"channels": (8, 16)}, {"hidden": 20}, {"channels": (8, 16, 16, 24, 25)}])
def test_sizes_that_do_not_fit_are_refused(wrong):
    with pytest.raises(BundleError, match="five levels and hidden features in multiples of 8"):
        PromptableVolume(**{**SMALL, **wrong})
