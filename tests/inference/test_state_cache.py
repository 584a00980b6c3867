"""Encoded images and their cache: bound in bytes, least recently used goes first, several threads."""
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

from promptzoo.core.errors import PromptZooError
from promptzoo.core.geometry import Grid, all_axis_codes, grid_with_codes
from promptzoo.core.volume import Volume
from promptzoo.inference.state import EncodedImage, StateCache


def entry(nbytes):
    """Something of a size."""
    return SimpleNamespace(nbytes=nbytes)


def test_every_arrangement_encodes_to_the_same_array():
    grid = Grid((3, 4, 5), np.diag([1.0, 2.0, 3.0, 1.0]))
    data = np.arange(60, dtype=np.float32).reshape(grid.shape)
    for codes in all_axis_codes():
        move, other = grid_with_codes(grid, codes)
        state = EncodedImage.of(Volume(move.array(data), other))
        np.testing.assert_array_equal(state.data, data)
        assert state.canonical.same_space(grid) and state.source is other and state.data.flags.c_contiguous
        np.testing.assert_array_equal(state.move.inverse_array(state.data), move.array(data))
        assert state.nbytes == 240


def test_hits_and_misses():
    cache = StateCache(100)
    first = cache.get(("a",), lambda: entry(10))
    assert cache.get(("a",), lambda: pytest.fail("made twice")) is first
    assert cache.get(("a", "v2"), lambda: entry(5)) is not first
    assert (cache.hits, cache.misses, cache.nbytes) == (1, 2, 15)


def test_an_entry_that_two_threads_make_counts_once():
    cache = StateCache(30)

    def slowly():
        cache.get(("a",), lambda: entry(10))
        return entry(10)

    cache.get(("a",), slowly)
    assert cache.nbytes == 10


def test_least_recently_used_goes_first():
    cache = StateCache(30)
    kept = [cache.get((name,), lambda: entry(10)) for name in "abc"]
    cache.get(("a",), lambda: entry(10))  # b is now the oldest
    cache.get(("d",), lambda: entry(10))
    assert cache.nbytes == 30
    assert cache.get(("a",), lambda: entry(10)) is kept[0] and cache.get(("c",), lambda: entry(10)) is kept[2]
    assert cache.get(("b",), lambda: entry(10)) is not kept[1]


def test_bytes_are_bounded():
    cache = StateCache(25)
    for n in range(20):
        cache.get((str(n),), lambda: entry(1 + n % 9))
        assert cache.nbytes <= 25
    cache.get(("large",), lambda: entry(25))
    assert cache.nbytes == 25


def test_images_larger_than_the_cache_are_not_kept_and_push_nothing_out():
    cache = StateCache(20)
    small = cache.get(("small",), lambda: entry(10))
    assert cache.get(("huge",), lambda: entry(21)).nbytes == 21
    assert cache.get(("small",), lambda: entry(10)) is small and cache.nbytes == 10


def test_cache_of_no_bytes_keeps_nothing():
    cache = StateCache(0)
    assert cache.get(("a",), lambda: entry(1)) is not cache.get(("a",), lambda: entry(1))
    assert cache.nbytes == 0


def test_errors_are_passed_on_and_leave_no_entry():
    cache = StateCache(10)
    with pytest.raises(OSError, match="no image"):
        cache.get(("a",), lambda: (_ for _ in ()).throw(OSError("no image")))
    assert cache.get(("a",), lambda: entry(3)).nbytes == 3


def test_negative_limits_are_refused():
    with pytest.raises(PromptZooError, match="cache limit: got -1; allowed: a number of bytes, at least 0"):
        StateCache(-1)


def test_threads_share_one_cache():
    cache = StateCache(50)
    start = threading.Barrier(8)

    def work(seed):
        rng = np.random.default_rng(seed)
        start.wait(timeout=30)
        for key in rng.integers(0, 12, 400):
            found = cache.get((str(key),), lambda: entry(int(key) + 1))
            assert found.nbytes == key + 1 and cache.nbytes <= 50

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(work, seed) for seed in range(8)]:
            done.result(timeout=60)
    assert cache.hits + cache.misses == 8 * 400 and cache.nbytes <= 50


def test_encoding_one_image_does_not_block_another():
    cache, inside = StateCache(50), threading.Event()
    release = threading.Event()

    def slow():
        inside.set()
        assert release.wait(timeout=30)
        return entry(5)

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(cache.get, ("slow",), slow)
        assert inside.wait(timeout=30)
        assert cache.get(("fast",), lambda: entry(1)).nbytes == 1
        release.set()
        assert waiting.result(timeout=30).nbytes == 5
