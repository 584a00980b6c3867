"""A distilled bundle beside its teacher: ``scripts/bench_student [STUDENT] [--teacher NAME]``.

Operations and parameters are counted; latencies of all encoders are taken in turns, so that a busy machine slows all of
them; Dice is that of tight boxes and of single clicks on procedural scenes that no training saw; peak memory is that of
a fresh process that answers one box. Writes the block ``efficiency`` of the student's ``docs/results.json`` and the
section *Efficiency* of its ``docs/README.md``.
"""
from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import time
from typing import Any, Sequence

import numpy as np

from promptzoo.core.bundles import get_bundle, read_json
from promptzoo.core.errors import PromptZooError

SEED = 740_011
"""Of the scenes; no training uses it."""
CHOICES = (("torch", "fp32"), ("openvino", "fp32"), ("openvino", "bf16"), ("openvino", "int8"))
"""Engines and precisions; the teacher is left out of the last, and memory is measured in the last two."""
SECTION = re.compile(r"(?<=^## Efficiency\n).*?(?=^## )", re.M | re.S)
_PEAK = """
import resource, sys
from promptzoo.cli.maintain.bench_student import boxed, scenes
from promptzoo.inference import load_predictor
bundle, engine, precision, variant = sys.argv[1:]
predictor = load_predictor(bundle, engine, precision, variant or None)
volume, mask = scenes(1, 256)[0]
predictor.decode(predictor.encode(volume), boxed(mask))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def scenes(count: int, side: int = 128) -> list[tuple[Any, np.ndarray]]:
    """``count`` flat images with the mask ``[side, side, 1]`` of one object each."""
    from promptzoo.core.geometry import Grid
    from promptzoo.core.seeding import generator
    from promptzoo.core.volume import Volume
    from promptzoo.data.synthesis import Procedural2D

    source = Procedural2D(side, SEED)
    pairs = [source.sample(generator(SEED, n), 1)[0] for n in range(count)]
    return [(Volume(100 * image[..., None].astype(np.float32), Grid((side, side, 1), np.eye(4))), mask[..., None])
            for image, mask in pairs]


def boxed(mask: np.ndarray) -> Any:
    """The tight box of a mask as prompts."""
    from promptzoo.prompts import Box, PromptSet

    at = np.argwhere(mask)
    return PromptSet((Box(tuple(map(float, at.min(0))), tuple(map(float, at.max(0) + 1)), 1, "voxel"),))


def clicked(mask: np.ndarray) -> Any:
    """A click in the middle of a mask as prompts."""
    from promptzoo.data.phantoms import inner_point
    from promptzoo.prompts import Point, PromptSet

    return PromptSet((Point(inner_point(mask), space="voxel"),))


def cost(bundle: str, variant: str | None) -> dict[str, Any]:
    """Parameters and floating-point operations of the encoder on one window, and bytes of the weights file."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from promptzoo.inference.loader import load_network

    network, parser = load_network(get_bundle(bundle), variant)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network.image_encoder(torch.zeros(1, 1, network.size, network.size))
    return {"encoder_parameters": sum(p.numel() for p in network.image_encoder.parameters()),
            "encoder_gflop": round(counter.get_total_flops() / 1e9, 3),
            "weights_bytes": os.path.getsize(str(parser.get_parsed_content("weights")))}


def dice_of(predictor: Any, cases: Sequence[tuple[Any, np.ndarray]]) -> dict[str, float]:
    """Mean Dice of boxes and of clicks."""
    found: dict[str, list[float]] = {"box": [], "click": []}
    for volume, mask in cases:
        state = predictor.encode(volume)
        for kind, prompts in (("box", boxed(mask)), ("click", clicked(mask))):
            answer = predictor.decode(state, prompts).objects[0].mask
            found[kind].append(2 * (answer & mask).sum() / max(1, answer.sum() + mask.sum()))
    return {f"dice_{kind}": round(float(np.mean(values)), 4) for kind, values in found.items()}


def in_turns(calls: dict[Any, Any], n: int) -> dict[Any, dict[str, float]]:
    """Milliseconds of calls that take turns, ``n`` each after three to warm up: median and least."""
    spent: dict[Any, list[float]] = {name: [] for name in calls}
    for turn in range(n + 3):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            if turn >= 3:
                spent[name].append(1e3 * (time.perf_counter() - started))
    return {name: {"encode_p50_ms": round(float(np.median(values)), 2), "encode_min_ms": round(min(values), 2)}
            for name, values in spent.items()}


def compare(entries: Sequence[tuple[str, str | None]], n: int, count: int) -> list[dict[str, Any]]:
    """Rows of all bundles (with a variant or None) in all engines and precisions; Dice behind the teacher in torch.

    Args:
        entries: the teacher first.
        n: repetitions of the timing.
        count: scenes.
    """
    from promptzoo.inference import load_predictor

    cases, rows, calls = scenes(count), {}, {}
    window = np.random.default_rng(0).standard_normal((1, 1, 256, 256)).astype(np.float32)
    for bundle, variant in entries:
        counted = cost(bundle, variant)
        for engine, precision in CHOICES[:3 if (bundle, variant) == tuple(entries[0]) else 4]:
            predictor = load_predictor(bundle, engine, precision, variant)
            key = (bundle, variant, engine, precision)
            rows[key] = {"bundle": bundle, "variant": variant, "engine": predictor.engine, **counted,
                         **dice_of(predictor, cases), "peak_rss_mb": None}
            if (engine, precision) in CHOICES[2:]:
                peak = subprocess.run([sys.executable, "-c", _PEAK, bundle, engine, precision, variant or ""],
                                      capture_output=True, text=True, check=True).stdout.split()[-1]
                rows[key]["peak_rss_mb"] = round(float(peak))
            calls[key] = lambda parts=predictor.segmenter.parts: parts.encode(window)
            print(json.dumps(rows[key]), flush=True)
    first = rows[(*entries[0], *CHOICES[0])]["dice_box"]
    for key, times in in_turns(calls, n).items():
        rows[key] |= times | {"dice_box_drop": round(first - rows[key]["dice_box"], 4)}
    return list(rows.values())


def section(block: dict[str, Any]) -> str:
    """The block as a Markdown table."""
    lines = [f"`{block['command']}` on {block['hardware']}, {block['cores']} cores, load average "
             f"{block['load_average'][0]}: latencies in turns, so that they compare with each other and less with "
             f"other tables; Dice on {block['scenes']} procedural scenes.", "",
             "| encoder | engine | parameters | GFLOP | encode, median (least) | box | behind the teacher | click | "
             "peak memory |", "|---" * 9 + "|"]
    lines += [f"| {row['bundle']}{' ' + row['variant'] if row['variant'] else ''} | {row['engine']} | "
              f"{row['encoder_parameters'] / 1e6:.2f} M | {row['encoder_gflop']:.2f} | "
              f"{row['encode_p50_ms']:.1f} ({row['encode_min_ms']:.1f}) ms | {row['dice_box']:.3f} | "
              f"{row['dice_box_drop']:+.3f} | {row['dice_click']:.3f} | {row['peak_rss_mb'] or '–'} MB |"
              for row in block["rows"]]
    return "\n".join(lines) + "\n\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of ``scripts/bench_student``; returns the exit code."""
    from promptzoo.engines.fingerprint import hardware_name, library_versions

    parser = argparse.ArgumentParser(prog="bench_student", description=str(__doc__).splitlines()[0])
    parser.add_argument("student", nargs="?", default="efficient_promptable", help="bundle that gets the block")
    parser.add_argument("--teacher", default="sam_box_finetune", help="bundle that it was distilled from")
    parser.add_argument("--variant", action="append", default=[], help="variants of the student, too")
    parser.add_argument("--n", type=int, default=30, help="repetitions of the timing")
    parser.add_argument("--scenes", type=int, default=40, help="scenes for Dice")
    asked = parser.parse_args(argv)
    try:
        info, load = get_bundle(asked.student), os.getloadavg()
        rows = compare([(asked.teacher, None), (asked.student, None), *((asked.student, v) for v in asked.variant)],
                       asked.n, asked.scenes)
    except PromptZooError as error:
        print(f"bench_student: {error}", file=sys.stderr)
        return 2
    place = info.path / "docs" / "results.json"
    document = read_json(place) if place.is_file() else {}
    document["efficiency"] = {
        "command": shlex.join(["scripts/bench_student", *(sys.argv[1:] if argv is None else argv)]), "rows": rows,
        "n": asked.n, "scenes": asked.scenes, "hardware": hardware_name(), "cores": os.cpu_count(),
        "load_average": [round(value, 1) for value in load], "versions": library_versions()}
    place.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    readme = info.path / "docs" / "README.md"
    told = section(document["efficiency"])
    readme.write_text(SECTION.sub(lambda _: told, readme.read_text(encoding="utf-8"), count=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
