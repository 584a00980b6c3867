"""What NVFLARE runs at a site of ``promptzoo federate``: receive the tensors of all, train, send one's own.

    python site.py WORK        (started by NVFLARE, in a job of its own)
"""
import json
import sys
from pathlib import Path

import numpy as np


def main(work: Path) -> None:
    """Take part until the job is over; every round is a line of ``WORK/<site>/rounds.jsonl``."""
    import nvflare.client as flare
    from nvflare.app_common.abstract.fl_model import FLModel, ParamsType

    from promptzoo.cli.federate.sites import open_site

    flare.init()
    name = flare.get_site_name()
    site = open_site(work, name)
    while flare.is_running():
        received = flare.receive()
        if received is None:
            break
        weights = site.train(received.params or {})
        with (work / name / "rounds.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"round": received.current_round, "received_bytes": _size(received.params or {}),
                                     "sent_bytes": _size(weights)}) + "\n")
        np.savez(work / name / "sent.npz", **weights)  # what left this site last, for whoever asks
        flare.send(FLModel(params=weights, params_type=ParamsType.FULL))


def _size(weights: dict) -> int:
    return sum(value.nbytes for value in weights.values())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
