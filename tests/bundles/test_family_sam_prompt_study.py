"""Honest small checks of sam-prompt-study (families.md, section 2) on the weights of its base."""
import json

import numpy as np
import pytest

from promptzoo.core.geometry import Grid
from promptzoo.core.volume import Volume
from promptzoo.evaluation.datalist import Case, Row, count_components
from promptzoo.evaluation.study import CHOICES, Study
from promptzoo.evaluation.study_grid import expand
from promptzoo.inference import load_predictor
from promptzoo.inference.everything import Everything

from .scenes import box_of, scenes

COUNT = 12
GRID = [{"kind": "points", "count": [1, 3], "place": ["centre", "random"]},
        {"kind": "points", "count": 1, "negative": 1}, {"kind": "box", "enlarge": [0, 0.1]},
        {"kind": "box", "shift": 0.1}, {"kind": "box+points", "count": 1}]
FEW = {"points_per_side": 5, "crops": 1, "iou": 0.3, "stability": 0.4}


@pytest.fixture(scope="module")
def cases():
    """Images that training never saw."""
    found = []
    for n, (volume, mask) in enumerate(scenes(COUNT)):
        row = Row(f"scene{n}", "seg2d", None, None, None, "procedural", {"label_name": "shape"})
        found.append(Case(row, volume, mask, count_components(mask)))
    return found


@pytest.fixture(scope="module")
def studied(cases):
    """Records of a small grid, made once by the bundle's own predictor."""
    made = {}

    def run(predictor):
        if predictor.name not in made:
            study = Study(predictor, expand(GRID))
            made[predictor.name] = [record for case in cases for record in study.run(case)]
        return made[predictor.name]

    return run


def _mean(records, condition, choice="answer"):
    return np.mean([r["dice"][choice] for r in records if r["condition"] == condition])


def test_a_box_ranks_over_a_point_where_the_extent_is_ambiguous(bundle, predictor, studied):
    """One click does not tell how far an object reaches; two corners do."""
    records = studied(predictor)
    box, point = _mean(records, "box"), _mean(records, "1 point centre")
    assert box >= point + 0.08, f"{box:.3f} against {point:.3f}"
    assert _mean(records, "box", "worst") > _mean(records, "1 point centre", "worst")


def test_oracle_over_predicted_over_worst_always(bundle, predictor, studied, cases):
    records = studied(predictor)
    records = records + [r for case in cases[:2] for r in
                         Study(predictor, expand([{"kind": "everything"}]), everything=Everything(**FEW)).run(case)]
    assert len(records) == COUNT * 9 + 2
    for record in records:
        scores = record["dice"]
        assert set(scores) == set(CHOICES) and scores["oracle"] >= scores["predicted"] >= scores["worst"], record


def test_the_predicted_iou_chooses_better_than_chance(bundle, predictor, studied):
    """The choice is above the mean of best and worst, and below the oracle."""
    records = studied(predictor)
    chosen, best, worst = (np.mean([r["dice"][c] for r in records]) for c in ("predicted", "oracle", "worst"))
    assert (best + worst) / 2 + 0.02 <= chosen < best, (worst, chosen, best)


def test_a_repeated_run_gives_the_same_numbers(bundle, predictor, studied, cases):
    study = Study(predictor, expand(GRID))
    again = [record for case in cases[:4] for record in study.run(case)]
    first = [r for r in studied(predictor) if r["id"] in {case.row.id for case in cases[:4]}]
    assert [{**r, "seconds": 0} for r in again] == [{**r, "seconds": 0} for r in first]


def test_everything_finds_several_objects(bundle, predictor):
    """Four ellipses on noise: each is found by at least one mask, at Dice above 0.8."""
    grids, rng = np.stack(np.indices((160, 160)), -1), np.random.default_rng(0)
    image, masks = rng.normal(100, 6, (160, 160)).astype(np.float32), []
    for centre, radii, value in (((40, 40), (22, 16), 60), ((45, 115), (15, 20), 100), ((115, 45), (18, 24), -60),
                                 ((115, 112), (20, 20), 80)):
        masks.append((((grids - centre) / radii) ** 2).sum(-1) <= 1)
        image[masks[-1]] += value
    volume = Volume(image[..., None], Grid((160, 160, 1), np.eye(4)))
    found = [m.mask[..., 0] for m in predictor.everything(predictor.encode(volume), Everything(points_per_side=8))]
    best = [max(2 * (m & mask).sum() / (m.sum() + mask.sum()) for m in found) for mask in masks]
    assert 4 <= len(found) <= 64 and min(best) > 0.8, (len(found), np.round(best, 2))


def test_the_protocols_of_the_systems_run(bundle, cases):
    """Every overlay's grid runs on a case with the overlay's own predictor; no two grids are the same."""
    names = {}
    for system, overlay in bundle.variants().items():
        plan = json.loads(overlay.read_text())["study"]
        conditions = expand(plan["conditions"])
        names[system] = tuple(c.name for c in conditions)
        study = Study(load_predictor(bundle.path, engine="torch", variant=system), conditions,
                      everything=Everything(**FEW))
        records = study.run(cases[0])
        assert study.left_out == [] and [r["condition"] for r in records] == list(names[system]), system
        assert plan["note"]
    assert len(set(names.values())) == len(names) == sum(state == "works" for state in bundle.systems.values())


def test_the_whole_image_is_one_window(bundle, cases):
    """SAM encodes an image once: the overlay's answer to any prompt comes from the same encoding."""
    predictor = load_predictor(bundle.path, engine="torch", variant="sam")
    calls, parts = [], predictor.segmenter.parts
    predictor.segmenter.parts = type(parts)(lambda images: calls.append(len(images)) or parts.encode(images),
                                            parts.decode)
    Study(predictor, expand([{"kind": "points", "count": [1, 3]}, {"kind": "box"}])).run(cases[1])
    assert sum(calls) == 1


def test_the_answer_is_the_candidate_that_the_selection_names(bundle, predictor, cases):
    """Of best predicted IoU here; the first one with Mazurowski's overlay."""
    first = load_predictor(bundle.path, engine="torch", variant="mazurowski-sam-study")
    differ = 0
    for volume, mask in ((case.volume, case.mask) for case in cases[:6]):
        for source, chosen in ((predictor, None), (first, 0)):
            offer = source.offer(source.encode(volume), box_of(mask))
            best = int(np.argmax([c.info["predicted_iou"] for c in offer.candidates]))
            differ += best != 0
            assert np.array_equal(offer.answer.mask, offer.candidates[best if chosen is None else chosen].mask)
    assert differ, "the two rules never differ"
