"""The NVFLARE simulator job of ``promptzoo federate``, in a process of its own: it takes over logging and signals.

    python -m promptzoo.cli.federate.job WORK        (after ``write_work``)
"""
import json
import sys
from pathlib import Path

GLOBAL = "global.npz"


def main(work: Path) -> int:
    """Run federated averaging over the sites below a folder; the status of the simulator, 0 if all went well."""
    from nvflare.job_config.api import FedJob
    from nvflare.job_config.script_runner import FrameworkType, ScriptRunner

    from promptzoo.cli.federate.server import Averaging

    rounds = json.loads((work / "plan.json").read_text(encoding="utf-8"))["plan"]["rounds"]
    names = sorted(file.parent.name for file in work.glob("*/site.json"))
    job = FedJob(name="promptzoo", min_clients=len(names))
    job.to_server(Averaging(num_clients=len(names), num_rounds=rounds, persistor_id="",
                            save_filename=str(work / GLOBAL)))
    script = str(Path(__file__).with_name("site.py"))
    for name in names:
        job.to(ScriptRunner(script, str(work), framework=FrameworkType.NUMPY), name)
    return job.simulator_run(str(work / "nvflare"), clients=names, threads=len(names)) or 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
