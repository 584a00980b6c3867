"""Honest small checks of prompt-tuned-seg (families.md, section 15) on the shipped weights."""
import hashlib

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from promptzoo.core.bundles import get_bundle
from promptzoo.core.errors import NotFoundError, PromptError, PromptZooError
from promptzoo.core.geometry import Grid
from promptzoo.core.learned import add_learned, remove_learned
from promptzoo.core.volume import Volume
from promptzoo.inference.learned import save_prompt
from promptzoo.inference.loader import load_network
from promptzoo.prompts import ClassPrompt, PromptSet
from promptzoo.training.prompt_tuning import Learning, Taught, dice_on, learn_prompt
from promptzoo.training.radiographs import SPACING_MM, radiograph

HELD_OUT = 977_000_011
"""No training uses radiographs from this seed on."""
LUNGS, RIGHT = 0, 1


def volume(image):
    """A radiograph ``[x, z]`` as an image."""
    return Volume(image[:, None], Grid((image.shape[0], 1, image.shape[1]),
                                       np.diag([SPACING_MM[0], SPACING_MM[1], SPACING_MM[2], 1.0])))


@pytest.fixture(scope="module")
def pictures():
    """Six held-out radiographs: image and masks of both lungs and the right one."""
    return [radiograph(HELD_OUT + n) for n in range(6)]


@pytest.fixture(scope="module")
def learned(pictures):
    """The right lung, learned from three radiographs in fewer steps than by default."""
    from promptzoo.inference import load_predictor

    encode = load_predictor("prompt_tuned_seg", engine="torch").parts.encode
    cases = [Taught.of(str(n), volume(image), masks[RIGHT][:, None]) for n, (image, masks) in enumerate(pictures)]
    return encode, cases, learn_prompt(encode, cases[:3], Learning(iterations=120, views=36))


def test_the_shipped_structure_is_found(bundle, predictor, pictures, dice):
    """Both lungs on radiographs that no training saw."""
    scores = []
    for image, masks in pictures:
        state = predictor.encode(volume(image))
        answer = predictor.decode(state, PromptSet((ClassPrompt("lungs"),))).objects[0]
        scores.append(dice(answer.mask, masks[LUNGS][:, None]))
    assert np.mean(scores) > 0.8, scores


def test_a_structure_is_learned_from_three_cases(bundle, learned, tmp_path):
    """Quickly, into a few kilobytes, and it is found on cases held out."""
    encode, cases, found = learned
    assert found.seconds < 120
    scores = [dice_on(encode, found.prompt, case) for case in cases[3:]]
    assert np.mean(scores) > 0.6, scores
    save_prompt(found.prompt, {"name": "x"}, tmp_path / "x.safetensors")
    assert (tmp_path / "x.safetensors").stat().st_size < 20_000
    whole = sum(p.numel() for p in load_network(bundle)[0].image_encoder.parameters())
    assert sum(p.numel() for p in found.prompt.parameters()) < 0.01 * whole


def test_removable_without_a_trace(bundle, predictor, learned, pictures, tmp_path, monkeypatch, dice):
    """Added it is a class at once, beside the others; removed, bundle and answers are bit for bit what they were."""
    monkeypatch.setenv("PROMPTZOO_DATA", str(tmp_path / "data"))
    state = predictor.encode(volume(pictures[5][0]))
    lungs, right = PromptSet((ClassPrompt("lungs"),)), PromptSet((ClassPrompt("right lung", 2),))

    def print_of():
        digest = hashlib.sha256((bundle.path / "models" / "delta.safetensors").read_bytes())
        for part in predictor.parts.encode(np.zeros((1, 1, 64, 64), np.float32)):
            digest.update(part.tobytes())
        return digest.hexdigest(), predictor.decode(state, lungs).objects[0].probability.tobytes()

    before = print_of()
    with pytest.raises(PromptError, match="right lung"):
        predictor.decode(state, right)
    sha = bundle.weights["base"]["sha256"]
    record = {"name": "right lung", "bundle": bundle.name, "base": {"sha256": sha}}
    save_prompt(learned[2].prompt, record, tmp_path / "shared.safetensors")
    add_learned(tmp_path / "shared.safetensors", bundle.name, sha)
    assert get_bundle(bundle.path).label["labels"] == ["lungs", "right lung"]
    assert dice(predictor.decode(state, right)[2].mask, pictures[5][1][RIGHT][:, None]) > 0.5
    both = predictor.decode(state, PromptSet((ClassPrompt("lungs"), ClassPrompt("right lung", 2))))
    assert both[1].mask.sum() > 1.5 * both[2].mask.sum()
    assert print_of() == before
    remove_learned("right lung", bundle.name)
    assert print_of() == before and get_bundle(bundle.path).label["labels"] == ["lungs"]
    with pytest.raises(PromptError, match="right lung"):
        predictor.decode(state, right)
    assert not [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    with pytest.raises(NotFoundError, match="right lung"):
        remove_learned("right lung", bundle.name)


def test_disagreement_follows_error(bundle, predictor, pictures, dice):
    """Where the sets of tokens disagree more, the mask is worse: images from clean to drowned in noise (SLPT)."""
    scores, doubts = [], []
    rng = np.random.default_rng(3)
    for n, (image, masks) in enumerate(pictures):
        for noise in (0.0, 0.3, 1.0):
            worse = image + noise * np.ptp(image) * rng.standard_normal(image.shape).astype(np.float32)
            answer = predictor.decode(predictor.encode(volume(worse)), PromptSet((ClassPrompt("lungs"),))).objects[0]
            scores.append(dice(answer.mask, masks[LUNGS][:, None]))
            doubts.append(answer.info["disagreement"])
    assert spearmanr(doubts, scores)[0] < -0.4, list(zip(doubts, scores))


def test_learning_leaves_the_process_as_it_was(bundle, learned):
    """The same seed learns the same prompt, and torch's own random state is not touched."""
    encode, cases, _ = learned
    settings = Learning(iterations=2, views=2)
    before = torch.get_rng_state()
    one, two = (learn_prompt(encode, cases[:1], settings).prompt.state_dict() for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one) and torch.equal(before, torch.get_rng_state())
    with pytest.raises(PromptZooError, match="1 to 20"):
        learn_prompt(encode, [])
