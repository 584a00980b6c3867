"""The server's part of a federated training: NVFLARE's averaging, its result as plain arrays."""
from __future__ import annotations

import numpy as np
from nvflare.app_common.abstract.fl_model import FLModel
from nvflare.app_common.workflows.fedavg import FedAvg


class Averaging(FedAvg):
    """``FedAvg`` that keeps the mean tensors in a file that nothing is executed from."""

    def save_model_file(self, model: FLModel, filepath: str) -> None:
        """Write the tensors of all sites' mean as ``.npz``."""
        np.savez(filepath, **model.params)
