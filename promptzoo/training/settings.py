"""How a bundle is fine-tuned on corrections, and whether it can be; without the weight of what trains it."""
from __future__ import annotations

from dataclasses import asdict, dataclass

from promptzoo.core.bundles import BundleInfo, read_json
from promptzoo.core.errors import PromptZooError, complain

NEEDED = ("datalist", "real_share", "initial_weights", "ckpt_dir", "weights_name", "scenes_per_epoch",
          "scenes_per_batch")
"""Settings of a ``train.json`` through which it can be run on corrected cases."""


@dataclass(frozen=True)
class Settings:
    """How long and how hard is trained.

    Args:
        iterations: steps of the optimiser.
        learning_rate: its highest value.
        real_share: share of corrected windows; the rest is procedural.
        minutes: training ends after that long, whatever was reached.
        clicks: of the simulated annotator on each object held back.
        most_objects: objects that are compared on; they are drawn with ``seed`` if there are more.
        least_gain: mean Dice by which the new version must be better to be put into use.
        seed: of everything random.
    """

    iterations: int = 120
    learning_rate: float = 6e-4
    real_share: float = 0.75
    minutes: float = 20.0
    clicks: int = 3
    most_objects: int = 12
    least_gain: float = 0.005
    seed: int = 0

    def __post_init__(self) -> None:
        good = (self.iterations >= 1 and 0 < self.learning_rate < 1 and 0 < self.real_share <= 1 and self.minutes > 0
                and self.clicks >= 1 and self.most_objects >= 1)
        if not good:
            raise PromptZooError(complain("settings of the training", asdict(self), "positive numbers, shares up to 1"))


def why_not_trainable(bundle: BundleInfo) -> str:
    """Why a bundle cannot be trained on corrections; empty if it can."""
    file = bundle.path / "configs" / "train.json"
    if bundle.task != "segmentation" or not {"point", "box"} & set(bundle.prompts):
        return "takes neither points nor boxes"
    if bundle.weights.get("base"):
        return f"is derived from {bundle.weights['base']['bundle']}: train that"
    missing = [name for name in NEEDED if name not in read_json(file)] if file.is_file() else ["configs/train.json"]
    return f"its training has no {', '.join(missing)}" if missing else ""
