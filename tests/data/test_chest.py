"""Procedural radiographs: reproducible, opacities on the side and at the height that they are named by."""
import numpy as np

from promptzoo.core.seeding import generator
from promptzoo.data.synthesis.chest import chest


def test_the_same_draws_give_the_same_radiograph():
    first, second = (chest(generator(3, 1), 96) for _ in range(2))
    assert np.array_equal(first[0], second[0]) and len(first[1]) == len(second[1])
    assert first[0].shape == (96, 96) and np.isfinite(first[0]).all()


def test_opacities_lie_where_they_are_named():
    """The first axis grows to the patient's right, the second to the head; opacities are brighter than without."""
    heights = {"upper": [], "middle": [], "lower": []}
    for n in range(12):
        image, opacities = chest(generator(4, n), 96, 4)
        assert len({(one.zone, one.side) for one in opacities}) == len(opacities)
        for one in opacities:
            x, z = np.argwhere(one.mask).mean(0)
            assert (x > 47.5) == (one.side == "right")
            heights[one.zone].append(z)
            assert one.size in ("small", "medium", "large")
    means = [np.mean(heights[zone]) for zone in ("lower", "middle", "upper")]
    assert means[0] < means[1] - 5 and means[1] < means[2] - 5


def test_the_number_can_be_chosen():
    assert chest(generator(5, 0), 96, 0)[1] == []
