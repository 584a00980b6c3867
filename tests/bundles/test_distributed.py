"""Training in two processes through ``multi_gpu_train.json``, with gloo on the CPU."""
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import torch

from promptzoo.core.bundles import get_bundle

ROOT = Path(__file__).resolve().parents[2]


def test_two_processes_train_and_one_of_them_writes(tmp_path):
    """With the trainer that takes a step per interaction, whose number is random: processes must agree on it."""
    info = get_bundle("interactive_refinement_2d")
    changes = {**info.contract["train_overrides"], "bundle_root": str(info.path), "ckpt_dir": str(tmp_path),
               "output_dir": str(tmp_path), "scenes_per_epoch": 4}
    (tmp_path / "small.json").write_text(json.dumps(changes))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    files = [str(info.config("train")), str(info.config("multi_gpu_train")), str(tmp_path / "small.json")]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_addr=127.0.0.1",
               f"--master_port={port}", "-m", "monai.bundle", "run", "--config_file", str(files)]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path,
                          env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-3000:]
    state = torch.load(tmp_path / "model.pt", weights_only=True)
    assert state and all(bool(torch.isfinite(value.float()).all()) for value in state.values())
    assert not any(key.startswith("module.") for key in state), "the weights load without the wrapper"
