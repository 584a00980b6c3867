"""One site's part in a federated training: MONAI's client around a bundle's own trainer, exchanging what is tuned."""
from __future__ import annotations

import logging
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Mapping, Sequence

import numpy as np
import torch
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems
from monai.fl.utils.exchange_object import ExchangeObject
from monai.fl.utils.filters import Filter

from promptzoo.core.bundles import BundleInfo, read_json
from promptzoo.core.errors import BundleError, PromptZooError, complain
from promptzoo.core.protocols import Predictor
from promptzoo.inference.loader import load_network
from promptzoo.training.corrections import Corrected, write_datalist

Weights = dict[str, np.ndarray]


@dataclass(frozen=True)
class FederatedPlan:
    """How long and how hard every site trains.

    Args:
        rounds: exchanges.
        iterations: steps of the optimiser at every site between two exchanges.
        learning_rate: its highest value.
        seed: of everything random.
    """

    rounds: int = 4
    iterations: int = 12
    learning_rate: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.iterations < 1 or not 0 < self.learning_rate < 1:
            raise PromptZooError(complain("plan of the federated training", asdict(self), "positive numbers"))


def why_not_federable(bundle: BundleInfo) -> str:
    """Why a bundle cannot be trained on the cases of sites; empty if it can."""
    file = bundle.path / "configs" / "train.json"
    if bundle.task != "segmentation" or bundle.dimensions != 2 or not {"point", "box"} & set(bundle.prompts):
        return "it is no 2D segmentation by points or boxes"
    config = read_json(file) if file.is_file() else {}
    return "" if {"images", "started_network"} <= set(config) else "its training names neither images nor a start"


class TunedOnly(Filter):
    """Lets the named tensors out of a site, nothing else.

    Args:
        names: of the tensors.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = frozenset(names)

    def __call__(self, data: ExchangeObject, extra: Any = None) -> ExchangeObject:
        """The same object with fewer weights."""
        data.weights = {name: value for name, value in (data.weights or {}).items() if name in self.names}
        return data


class Site:
    """A site that trains a bundle on its own cases.

    Args:
        bundle: its weights are where the training starts.
        name: of the site.
        cases: to train on; they never leave.
        plan: how.
        place: folder of the site for its datalist, logs and weights.

    Raises:
        BundleError: if the bundle cannot be trained so.
    """

    def __init__(self, bundle: BundleInfo, name: str, cases: Sequence[Corrected], plan: FederatedPlan, place: Path
                 ) -> None:
        why = why_not_federable(bundle)
        if why:
            raise BundleError(complain(f"federated training of {bundle.name}", why, "a bundle like sam_peft"))
        place.mkdir(parents=True, exist_ok=True)
        write_datalist(cases, place / "cases.csv")
        self.algo = MonaiAlgo(str(bundle.path), local_epochs=1, send_weight_diff=False,
                              train_kwargs=_changes(bundle, plan, place), config_evaluate_filename=None)
        for chatty in (type(self.algo).__module__, "monai.networks.utils"):
            logging.getLogger(chatty).setLevel(logging.WARNING)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="executing the bundle config")  # it is the bundle installed here
            self.algo.initialize({ExtraItems.CLIENT_NAME: name, ExtraItems.APP_ROOT: ""})
        network = self.algo.trainer.network
        self.tuned = tuple(name for name, value in network.named_parameters() if value.requires_grad)
        self.algo.post_weight_filters = [TunedOnly(self.tuned)]

    def weights(self) -> Weights:
        """What would be sent now: the tuned tensors by name."""
        found = self.algo.get_weights().weights
        return {name: value.detach().cpu().numpy().astype(np.float32) for name, value in found.items()}

    def train(self, received: Mapping[str, np.ndarray]) -> Weights:
        """One round: begin with the tensors of all sites (nothing received: with one's own), train, and answer."""
        start = {name: torch.from_numpy(np.array(value)) for name, value in (received or self.weights()).items()}
        self.algo.train(ExchangeObject(weights=start))
        return self.weights()


def _changes(bundle: BundleInfo, plan: FederatedPlan, place: Path) -> dict[str, Any]:
    """What is changed in a bundle's ``train.json``."""
    config = read_json(bundle.path / "configs" / "train.json")
    images = {"_target_": "promptzoo.training.dataset.ProceduralDataset", "spatial_dims": 2,
              "length": "$@scenes_per_epoch * @max_epochs", "targets_per_scene": "@targets_per_scene",
              "size": "@train_windows", "seed": "@seed", "datalist": str(place / "cases.csv"), "real_share": 1.0}
    return {"bundle_root": str(bundle.path), "ckpt_dir": str(place), "output_dir": str(place), "seed": plan.seed,
            "images": images, "started_network::weights": str(bundle.weights_path), "num_workers": 0,
            "learning_rate": plan.learning_rate, "max_epochs": plan.rounds, "val_interval": plan.rounds + 1,
            "scenes_per_epoch": plan.iterations * int(config["scenes_per_batch"]), "train::dataloader::shuffle": True}


def predictor_with(bundle: BundleInfo, weights: Mapping[str, np.ndarray]) -> Predictor:
    """The bundle's predictor with some of its tensors replaced.

    Raises:
        BundleError: if the network has no tensor of such a name or shape.
    """
    network, parser = load_network(bundle)
    fill_in(network, weights, bundle.name)
    inferer = parser.get_parsed_content("inferer")
    predictor: Predictor = inferer.predictor(inferer.wrap(network), bundle.name, "torch fp32")
    return predictor


def fill_in(network: torch.nn.Module, weights: Mapping[str, np.ndarray], bundle: str) -> None:
    """Put tensors into a network.

    Raises:
        BundleError: if the network has no tensor of such a name or shape.
    """
    state = network.state_dict()
    wrong = [name for name, value in weights.items() if name not in state or state[name].shape != value.shape]
    if wrong:
        raise BundleError(complain(f"tensors for {bundle}", ", ".join(wrong[:3]), "names and shapes of its network"))
    network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in weights.items()},
                            strict=False)
