"""What stands in the place of a bundle in the processes of a batch."""
import os
import time
from pathlib import Path

from promptzoo.cli.choice import file_sha256
from promptzoo.core.errors import ImageError


class Copy:
    """Writes the image's text as its mask; notes every attempt, and does what the text says."""

    def __init__(self, job):
        self.job = job

    def __call__(self, study):
        """Answer a study."""
        text = Path(study.image).read_text()
        with open(Path(self.job.out) / "attempts.txt", "a") as stream:
            stream.write(f"{study.id} {os.getpid()}\n")
        tries = (Path(self.job.out) / "attempts.txt").read_text().count(f"{study.id} ")
        if "unreadable" in text:
            raise ImageError("this file holds no image")
        if "defect" in text:
            raise ValueError("a defect")
        if "die once" in text and tries == 1 or "die always" in text:
            os._exit(9)
        if "slow" in text:
            time.sleep(0.3)
        target = Path(self.job.out) / f"{study.name}{self.job.suffix}"
        target.write_text(text)
        return {"mask": target.name, "sha256": file_sha256(target), "objects": [], "pid": os.getpid(), "seconds": 0.01}
