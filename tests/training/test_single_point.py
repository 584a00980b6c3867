"""One pair of clicks stands for all nuclei: where they lie, and what the target is."""
import numpy as np
import torch

from promptzoo.training.auto_prompt import NucleiDataset
from promptzoo.training.single_point import NucleiUnions, PairAnnotator


def test_the_target_is_all_nuclei_together():
    plain, union = (kind(1, 64, 5, 0.0)[0] for kind in (NucleiDataset, NucleiUnions))
    assert torch.equal(union["image"][0], plain["image"]) and union["label"].shape == (1, 1, 64, 64)
    assert torch.equal(union["label"][0], plain["label"] > 0) and plain["label"].max() > 1


def test_one_click_near_the_middle_of_a_nucleus_and_one_beside_all():
    truth = np.zeros((48, 48), bool)
    truth[4:20, 4:20] = truth[30:44, 26:46] = True
    middles, seen = np.array([[11.5, 11.5], [36.5, 35.5]]), set()
    for seed in range(40):
        prompts = PairAnnotator(lone_share=0.0).start(truth, np.random.default_rng(seed)).prompts()
        inside, beside = (np.asarray(rows, int) for rows in (prompts.positive, prompts.negative))
        assert len(inside) == len(beside) == 1 and truth[tuple(inside[0])] and not truth[tuple(beside[0])]
        gaps = np.abs(inside - middles).max(1)
        seen.add(int(gaps.argmin()))
        assert gaps.min() < 9
    assert seen == {0, 1}


def test_some_sessions_have_no_second_click_and_an_empty_image_no_first():
    truth = np.zeros((32, 32), bool)
    truth[8:20, 8:20] = True
    lone = [PairAnnotator(lone_share=0.5).start(truth, np.random.default_rng(n)).prompts().negative is None
            for n in range(40)]
    assert 8 < sum(lone) < 32
    empty = PairAnnotator().start(np.zeros((32, 32), bool), np.random.default_rng(0)).prompts()
    assert empty.positive is None and len(empty.negative) == 1
