"""The same studies as actors of a Ray cluster."""
import pytest

pytest.importorskip("ray", reason="ray comes with the extra scale")

from promptzoo.cli.batch.on_ray import work_on_ray  # noqa: E402
from promptzoo.cli.batch.studies import Study  # noqa: E402
from promptzoo.cli.batch.worker import Job  # noqa: E402

from .work import Copy  # noqa: E402


def test_actors_die_and_nothing_is_lost(tmp_path):
    """More actors than cores: none waits for ever."""
    import ray

    out, texts = tmp_path / "out", ("fine", "unreadable", "die once", "fine", "die always")
    out.mkdir()
    studies = []
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.txt").write_text(text)
        studies.append(Study(f"s{number}", str(tmp_path / f"{number}.txt"), "{}"))
    job = Job("bundle", "0.1.0", None, "torch", "fp32", (), str(out))
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        ends = {study.id: (record, error) for study, record, error in work_on_ray(job, studies, 5, 1, "auto", Copy)}
    finally:
        ray.shutdown()
    assert set(ends) == {study.id for study in studies}
    assert all(ends[name][0] for name in ("s0", "s2", "s3")) and ends["s1"][1].startswith("ImageError")
    assert "the actor died" in ends["s4"][1]
