"""The version rule: content released under a version stays as it was."""
import json

from promptzoo.cli.maintain.verify import verify
from promptzoo.cli.maintain.versions import content_digest, release_line, released
from promptzoo.core.bundles import read_bundle


def _release(path):
    changelog = path.parents[1] / "CHANGELOG.md"
    line = release_line(read_bundle(path))
    changelog.write_text(f"# Changelog\n\n## [Unreleased]\n\n## [0.1.0] - 2026-11-22\n{line}\n")
    return line


def test_only_released_sections_count():
    line = "- `toy` 0.1.0, content `0123456789abcdef`\n"
    assert released(f"# C\n## [Unreleased] – 0.1.0\n{line}") == {}
    assert released(f"# C\n## [0.2.0] - 2026-12-01\n## [0.1.0] - 2026-11-22\n{line}") == {
        ("toy", "0.1.0"): "0123456789abcdef"}


def test_a_changed_released_bundle_needs_a_new_version(bundle_path):
    config = bundle_path / "configs" / "train.json"
    config.write_text('{"a": 1}')  # not released yet: free to change
    assert verify(bundle_path) == {}
    _release(bundle_path)
    (bundle_path / "docs" / "README.md").write_text("Still not a medical device, better said.\n")  # no content
    assert verify(bundle_path) == {}
    config.write_text('{"a": 2}')
    assert "was released with other content" in verify(bundle_path)["version"][0]
    file = bundle_path / "configs" / "metadata.json"
    document = json.loads(file.read_text())
    document.update(version="0.1.1", changelog={"0.1.1": "a is 2", **document["changelog"]})
    file.write_text(json.dumps(document))
    assert verify(bundle_path) == {}


def test_the_digest_sees_names_and_bytes_but_no_hidden_or_built_files(bundle_path):
    first = content_digest(bundle_path)
    (bundle_path / "models" / ".gitignore").write_text("*")
    (bundle_path / "models" / "model.plan").write_text("compiled")
    assert content_digest(bundle_path) == first
    (bundle_path / "configs" / "train.json").rename(bundle_path / "configs" / "train2.json")
    assert content_digest(bundle_path) != first
