import pytest
import torch

from promptzoo.networks.class_prompt_sam import CLASS, ClassPromptSam
from promptzoo.networks.deltas import fill, read_file, save_delta
from promptzoo.networks.efficient_sam import EfficientSam
from promptzoo.networks.prompt_attention_sam import PromptAttentionSam
from promptzoo.networks.warm_start import start_from

SMALL = {"size": 64, "hidden": 32, "fine": 8,
         "student": {"widths": [8, 8, 16, 16, 16], "depths": [1, 1, 1, 1]}}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    torch.manual_seed(0)
    network, file = EfficientSam(**SMALL).eval(), tmp_path_factory.mktemp("b") / "own" / "models" / "model.pt"
    file.parent.mkdir(parents=True)
    network.half().float()
    torch.save({"model": network.state_dict()}, file)
    return network, file


def boxed(network, kind=None):
    """Logits of a box, and of the class beside it."""
    torch.manual_seed(2)
    image, points, labels = torch.randn(1, 1, 64, 64), torch.zeros(1, 16, 2), torch.full((1, 16), -1.0)
    points[0, 0], points[0, 1], labels[0, :2] = 10.0, 50.0, torch.tensor([2.0, 3.0])
    if kind is not None:
        labels[0, 2] = CLASS + kind
    with torch.inference_mode():
        return network(image, points, labels)


def test_a_class_changes_the_answer_once_it_is_learned(base):
    network = start_from(ClassPromptSam(3, **SMALL), base[1]).eval()
    assert torch.equal(boxed(network), boxed(base[0]))
    assert torch.allclose(boxed(network, 1), boxed(network), atol=1e-5)
    torch.nn.init.normal_(network.class_prompts)
    answers = [boxed(network, kind) for kind in (None, 0, 1)]
    assert torch.equal(answers[0], boxed(base[0]))
    assert not torch.allclose(answers[0], answers[1], atol=1e-3)
    assert not torch.allclose(answers[1], answers[2], atol=1e-3)


def test_prompt_attention_starts_at_the_base_and_looks_at_tokens(base):
    network = start_from(PromptAttentionSam(**SMALL), base[1]).eval()
    assert torch.equal(boxed(network), boxed(base[0]))
    block = network.prompt_attention[1]
    torch.nn.init.normal_(block.out.weight)
    value, tokens = torch.randn(1, 4, 8, 8), torch.randn(2, 1, 5, 32)
    assert not torch.allclose(block(value, tokens[0]), block(value, tokens[1]), atol=1e-4)


@pytest.mark.parametrize("make", [lambda: ClassPromptSam(3, **SMALL), lambda: PromptAttentionSam(**SMALL)])
def test_the_encoder_stays_as_it_is(base, make):
    network = start_from(make(), base[1]).train()
    before = {name: value.clone() for name, value in network.image_encoder.state_dict().items()}
    network(torch.randn(2, 1, 64, 64)).mean().backward()
    assert all(torch.equal(before[name], value) for name, value in network.image_encoder.state_dict().items())
    assert all(p.grad is None for p in network.image_encoder.parameters())


def test_a_delta_may_lie_on_a_delta(base, tmp_path):
    """The second names the first as its base and stores only what differs from it."""
    folder = base[1].parent
    torch.manual_seed(3)
    first = start_from(EfficientSam(**SMALL), base[1])
    torch.nn.init.normal_(first.image_encoder.embed.weight)
    save_delta(first, base[1], folder / "first.safetensors")
    second = start_from(ClassPromptSam(3, **SMALL), str(folder / "first.safetensors"))
    torch.nn.init.normal_(second.class_prompts)
    save_delta(second, folder / "first.safetensors", folder / "second.safetensors")
    state, told = read_file(folder / "second.safetensors")
    assert set(state) == {"class_prompts"} and told["base"] == "own/models/first.safetensors"
    third = ClassPromptSam(3, **SMALL)
    fill(third, folder / "second.safetensors")
    assert torch.allclose(third.image_encoder.embed.weight, first.image_encoder.embed.weight, atol=1e-3)
