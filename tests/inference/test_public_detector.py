"""Detectors of transformers at a tiny random size answer as our own does."""
import numpy as np
import pytest

from promptzoo.core.autoload import mend_imports
from promptzoo.core.errors import NotFoundError
from promptzoo.core.geometry import Grid
from promptzoo.core.volume import Volume
from promptzoo.data.arrays import UPRIGHT_AFFINE
from promptzoo.inference.detector import DetectorSettings
from promptzoo.inference.public_detector import PublicDetector
from promptzoo.prompts import PromptSet, TextPrompt

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "cell", ".", "?", "a"]


@pytest.fixture(scope="module")
def owlvit(tmp_path_factory):
    """A folder with a tiny random OWL-ViT."""
    mend_imports()
    import json

    import torch
    from transformers import (
        CLIPTokenizer,
        OwlViTConfig,
        OwlViTForObjectDetection,
        OwlViTImageProcessor,
        OwlViTProcessor,
    )

    folder = tmp_path_factory.mktemp("owl")
    letters = [chr(n) for n in range(ord("a"), ord("z") + 1)]
    vocabulary = letters + [f"{c}</w>" for c in letters] + ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({w: n for n, w in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), pad_token="a")
    text = {"vocab_size": len(vocabulary), "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
            "num_attention_heads": 2, "max_position_embeddings": 16}
    vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
              "image_size": 64, "patch_size": 16}
    torch.manual_seed(0)
    model = OwlViTForObjectDetection(OwlViTConfig(text_config=text, vision_config=vision, projection_dim=16))
    torch.nn.init.zeros_(model.box_head.dense2.weight)  # random boxes are wider than the picture, or empty
    torch.nn.init.zeros_(model.box_head.dense2.bias)
    model.save_pretrained(folder)
    OwlViTProcessor(OwlViTImageProcessor(size={"height": 64, "width": 64}, do_center_crop=False),
                    tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def dino(tmp_path_factory):
    """A folder with a tiny random Grounding DINO."""
    mend_imports()
    import torch
    from transformers import (
        BertTokenizer,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessor,
        GroundingDinoProcessor,
        SwinConfig,
    )

    folder = tmp_path_factory.mktemp("dino")
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    swin = SwinConfig(image_size=64, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1], window_size=2,
                      out_features=["stage2", "stage3", "stage4"])
    config = GroundingDinoConfig(
        backbone_config=swin, d_model=32, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, num_queries=20, num_feature_levels=3,
        text_config={"model_type": "bert", "vocab_size": len(WORDS), "hidden_size": 16, "num_hidden_layers": 1,
                     "num_attention_heads": 2, "intermediate_size": 32}, max_text_len=32)
    torch.manual_seed(0)
    GroundingDinoForObjectDetection(config).save_pretrained(folder)
    GroundingDinoProcessor(GroundingDinoImageProcessor(size={"shortest_edge": 64, "longest_edge": 96}),
                           BertTokenizer(str(folder / "vocab.txt"))).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["owlvit", "dino"])
def test_boxes_of_a_public_detector_lie_in_the_picture(kind, request):
    folder = str(request.getfixturevalue(kind))
    predictor = PublicDetector(folder, settings=DetectorSettings(threshold=0.02, least=0.01))
    data = np.random.default_rng(0).uniform(0, 255, (48, 40, 1)).astype(np.float32)
    volume = Volume(data, Grid(data.shape, UPRIGHT_AFFINE), {"format": "raster"})
    state = predictor.encode(volume)
    answer = predictor.decode(state, PromptSet((TextPrompt("red cell"),))).objects[0]
    assert answer.info["instances"] >= 1 and answer.mask.any()
    for one in answer.info["boxes"]:
        assert all(0 <= a < b <= n for a, b, n in zip(one["low"], one["high"], (48, 40, 1)))
        assert 0.01 <= one["score"] <= 1
    generated = PromptSet.from_json(answer.info["generated"]).check_on(volume.grid)
    assert generated.kinds == {"box"} and len(generated) == answer.info["instances"]
    assert [word for word, _ in predictor.lint(state, "red cell")] == ["red", "cell"]


def test_what_is_no_detector_is_told(tmp_path):
    with pytest.raises(NotFoundError, match="Grounding DINO"):
        PublicDetector(str(tmp_path / "nothing"))
