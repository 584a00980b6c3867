"""Studies in many processes: deaths, defects and bad files; nothing lost, nothing double."""
import multiprocessing
import os
import threading
from pathlib import Path

import pytest

from promptzoo.cli.batch.pool import work_through
from promptzoo.cli.batch.studies import Study
from promptzoo.cli.batch.worker import Job

from .work import Copy


@pytest.fixture
def job(tmp_path):
    """A job whose results go to a folder of this test."""
    out = tmp_path / "out"
    out.mkdir()
    return Job("bundle", "0.1.0", None, "torch", "fp32", (), str(out))


@pytest.fixture
def studies(tmp_path):
    """A function that makes studies out of the texts of their images."""

    def make(*texts):
        found = []
        for n, text in enumerate(texts):
            (tmp_path / f"{n}.txt").write_text(text)
            found.append(Study(f"s{n}", str(tmp_path / f"{n}.txt"), "{}"))
        return found

    return make


@pytest.mark.parametrize("jobs", [1, 2])
def test_bad_files_and_defects_are_told_apart(job, studies, jobs):
    ends = {study.id: (record, error) for study, record, error in
            work_through(job, studies("fine", "unreadable", "defect", "fine"), jobs, 1, Copy)}
    assert set(ends) == {"s0", "s1", "s2", "s3"} and ends["s0"][0] and ends["s3"][0]
    assert ends["s1"] == (None, "ImageError: this file holds no image")
    assert ends["s2"] == (None, "ValueError: a defect")
    tries = open(os.path.join(job.out, "attempts.txt")).read()
    assert tries.count("s1 ") == 1, "what a person must cure is not tried again"
    assert tries.count("s2 ") == 2


def test_a_process_that_dies_is_replaced(job, studies):
    ends = {study.id: error for study, _, error in
            work_through(job, studies("die once", "fine", "die always", "fine"), 2, 1, Copy)}
    assert ends["s0"] == ends["s1"] == ends["s3"] == "" and "exit code 9" in ends["s2"]


def test_killing_workers_loses_and_doubles_nothing(job, studies):
    """Processes are killed from outside while they work."""
    many, killed, over = studies(*["slow"] * 12), [], threading.Event()
    attempts = Path(job.out, "attempts.txt")

    def kill():
        while len(killed) < 2 and not over.wait(0.1):
            latest = (attempts.read_text() if attempts.exists() else "").splitlines()[-1:]
            for child in multiprocessing.active_children():  # never a number of a process that is nobody's child here
                if [str(child.pid)] == [line.split()[-1] for line in latest] and child.pid not in killed:
                    child.kill()
                    killed.append(child.pid)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        ends = [(study.id, error) for study, _, error in work_through(job, many, 2, 4, Copy)]
    finally:
        over.set()
        killer.join()
    assert sorted(ends) == sorted((study.id, "") for study in many) and killed
