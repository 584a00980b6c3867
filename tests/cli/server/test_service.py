"""The service: loads once, encodes once, remembers what a client asked."""
import os
import threading

import numpy as np
import pytest

from promptzoo.cli.server.conversation import Conversations, extends
from promptzoo.cli.server.service import PromptService
from promptzoo.core.errors import BundleError, NotFoundError, PromptError
from promptzoo.core.geometry import Grid
from promptzoo.core.protocols import ObjectPrediction, Prediction
from promptzoo.core.versions import Versions
from promptzoo.prompts.types import ObjectInfo, Point, PromptSet, TextPrompt

FIRST, SECOND, OTHER = (Point(at, True, 1, "voxel") for at in ((3, 4, 5), (8, 8, 5), (10, 10, 8)))


def asked(*prompts):
    """A prompt set of object 1."""
    return PromptSet(prompts)


def test_bundles_are_served_3d_first(service):
    assert list(service.bundles) == ["clicks_3d", "clicks_2d"]


def test_an_image_is_read_and_encoded_once_per_bundle(service, image_file, monkeypatch):
    bundle = service.bundles["clicks_3d"]
    answer = service.answer(service.images.open(image_file), asked(FIRST), bundle)
    assert answer.prediction.labelmap().sum() == 27 and not answer.reason
    from promptzoo.cli.server import images
    monkeypatch.setattr(images, "read_image", None)
    again = service.answer(service.images.open(image_file), asked(SECOND), bundle)
    assert again.prediction.labelmap().sum() == 27 and service.made["clicks_3d"].encoded == 1
    assert service.states.hits == 1


def test_a_changed_file_is_another_image(service, image_file):
    before = service.images.open(image_file)
    os.utime(image_file, (1, 1))
    assert service.images.open(image_file) is not before
    assert service.images.open(image_file).content_hash == before.content_hash


def test_an_image_too_large_for_the_cache_is_read_again(bundles, image_file, service):
    service.states.limit_bytes = 10
    for _ in range(2):
        service.answer(service.images.open(image_file), asked(FIRST), service.bundles["clicks_3d"])
    assert service.made["clicks_3d"].encoded == 2


def test_the_same_request_without_a_client_has_no_memory(service, image_file):
    image, bundle = service.images.open(image_file), service.bundles["clicks_3d"]
    for prompts in (asked(FIRST), asked(FIRST, SECOND), asked(FIRST)):
        assert not service.answer(image, prompts, bundle).warm_start
    assert all(previous is None for _, previous in service.made["clicks_3d"].decoded)


def test_a_client_that_adds_prompts_has_its_mask_refined(service, image_file):
    image, bundle = service.images.open(image_file), service.bundles["clicks_3d"]
    first = service.answer(image, asked(FIRST), bundle, "me")
    second = service.answer(image, asked(FIRST, SECOND), bundle, "me")
    assert not first.warm_start and second.warm_start
    assert service.made["clicks_3d"].decoded[-1][1] is first.prediction
    assert not service.answer(image, asked(FIRST, SECOND), bundle, "you").warm_start
    assert not service.answer(image, asked(OTHER), bundle, "me").warm_start


def test_asking_again_and_going_back_give_the_very_same_masks(service, image_file):
    image, bundle = service.images.open(image_file), service.bundles["clicks_3d"]
    first = service.answer(image, asked(FIRST), bundle, "me")
    second = service.answer(image, asked(FIRST, SECOND), bundle, "me")
    assert service.answer(image, asked(FIRST, SECOND), bundle, "me").prediction is second.prediction
    assert service.answer(image, asked(FIRST), bundle, "me").prediction is first.prediction
    assert len(service.made["clicks_3d"].decoded) == 2


def test_a_client_can_start_over(service, image_file):
    image, bundle = service.images.open(image_file), service.bundles["clicks_3d"]
    service.answer(image, asked(FIRST), bundle, "me")
    assert not service.answer(image, asked(FIRST, SECOND), bundle, "me", forget=True).warm_start


def test_without_a_prompt_the_mask_is_empty_and_says_why(service, image_file):
    answer = service.answer(service.images.open(image_file), asked(), service.bundles["clicks_3d"])
    assert not answer.prediction.labelmap().any() and "no prompt was given" in answer.reason
    assert not service.made


def test_an_empty_mask_says_why(service, image_file):
    negative = asked(Point((3, 4, 5), False, 1, "voxel"))
    answer = service.answer(service.images.open(image_file), negative, service.bundles["clicks_3d"])
    assert answer.reason == "the network found nothing at the prompts"


def test_prompts_are_checked_before_anything_is_loaded(service, image_file):
    image, bundle = service.images.open(image_file), service.bundles["clicks_3d"]
    with pytest.raises(PromptError, match="outside the image"):
        service.answer(image, asked(Point((99, 4, 5), True, 1, "voxel")), bundle)
    with pytest.raises(PromptError, match="not taken by this bundle: got text"):
        service.answer(image, asked(TextPrompt("liver")), bundle)
    assert not service.made


def test_unknown_bundle_and_missing_weights(service):
    with pytest.raises(NotFoundError, match="Did you mean clicks_3d?"):
        service.predictor("click_3d")
    service.bundles["clicks_3d"].weights_path.unlink()
    with pytest.raises(NotFoundError, match="weights of bundle clicks_3d"):
        service.predictor("clicks_3d")


def test_the_bundle_is_chosen_by_image_and_prompts(service):
    assert service.choose(Grid((9, 9, 1), np.eye(4)), {"point"}).name == "clicks_2d"
    assert service.choose(Grid((9, 9, 9), np.eye(4)), {"point"}).name == "clicks_3d"
    with pytest.raises(NotFoundError, match="does not take text"):
        service.choose(Grid((9, 9, 9), np.eye(4)), {"text"})


def test_a_bundle_that_fails_to_load_does_not_stop_the_others(bundles, caplog):
    loaded = []

    def load(path, engine):
        if path.name == "clicks_3d":
            raise RuntimeError("broken")
        loaded.append(path.name)

    PromptService(bundles, load=load).preload()
    assert loaded == ["clicks_2d"] and "clicks_3d cannot be loaded" in caplog.text


def test_threads_load_a_bundle_once(bundles):
    loads = []
    service = PromptService(bundles, load=lambda path, engine: loads.append(path.name) or object())
    threads = [threading.Thread(target=service.predictor, args=("clicks_3d",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loads == ["clicks_3d"]


def test_image_that_is_gone(service, tmp_path):
    with pytest.raises(NotFoundError, match="image file"):
        service.images.open(tmp_path / "none.nii.gz")


def test_extends_needs_every_earlier_prompt_and_one_more():
    assert extends(asked(FIRST, SECOND), asked(FIRST)) and extends(asked(OTHER, FIRST, SECOND), asked(FIRST, SECOND))
    assert not extends(asked(FIRST), asked(FIRST)) and not extends(asked(SECOND, OTHER), asked(FIRST))
    assert not extends(asked(FIRST, FIRST), asked(FIRST, FIRST))
    two = PromptSet((FIRST,), (ObjectInfo(1), ObjectInfo(2)))
    assert not extends(asked(FIRST, SECOND), two)


def test_conversations_are_bounded_in_bytes():
    grid = Grid((10, 10, 10), np.eye(4))

    def prediction():
        return Prediction(grid, (ObjectPrediction(1, grid, (0, 0, 0), np.zeros(grid.shape, np.float32)),))

    kept = Conversations(limit_bytes=9000)
    kept.record("a", asked(FIRST), prediction())
    kept.record("b", asked(FIRST), prediction())
    kept.record("b", asked(FIRST, SECOND), prediction())
    assert kept.held_bytes() == 8000 and kept.recall("a", asked(FIRST)) == (None, None)
    assert kept.recall("b", asked(FIRST))[0] is not None


@pytest.fixture
def versions(service, tmp_path, monkeypatch):
    """Versions of the 3D bundle, and a function that adds one and puts it into use."""
    monkeypatch.setenv("PROMPTZOO_VERSIONS", str(tmp_path / "versions"))
    found = Versions(service.bundles["clicks_3d"])
    weights = tmp_path / "fresh.pt"
    weights.write_bytes(b"trained")
    return found, lambda: found.use(found.add(weights, {}))


def test_another_version_is_served_once_it_is_loaded(service, image_file, versions):
    image, old = service.images.open(image_file), service.bundles["clicks_3d"]
    service.answer(image, asked(Point((3, 4, 5), True, 1, "voxel")), old)
    assert service.renew() == []
    sign = service.version_sign()
    fresh = versions[1]()
    assert service.version_sign() != sign
    assert service.bundles["clicks_3d"] is old and service.renew() == ["clicks_3d"]
    assert service.bundle("clicks_3d").version == "0.1.0+1" and len(service._predictors) == 2
    answer = service.answer(image, asked(Point((3, 4, 5), True, 1, "voxel")), service.bundle("clicks_3d"))
    assert answer.bundle.path == fresh.path
    assert service.answer(image, asked(Point((3, 4, 5), True, 1, "voxel")), old).bundle is old, "a session goes on"
    assert service.bundle("clicks_3d", old.version).path == old.path
    with pytest.raises(NotFoundError, match="version of bundle clicks_3d: got 7"):
        service.predictor("clicks_3d", "7")
    versions[0].roll_back()
    assert service.renew() == ["clicks_3d"] and service.bundle("clicks_3d").version == old.version


def test_a_version_that_cannot_be_loaded_is_not_served(service, versions, monkeypatch, caplog):
    service.predictor("clicks_3d")
    versions[1]()

    def broken(path, engine):
        raise BundleError("no network")

    monkeypatch.setattr(service, "_load", broken)
    assert service.renew() == [] and service.bundle("clicks_3d").version == "0.1.0"
    assert "stays 0.1.0: 0.1.0+1 cannot be loaded: no network" in caplog.text
