"""Measure a bundle that detects by words: ``python -m promptzoo.cli.maintain.measure_detection BUNDLE --coco FILE``.

Writes blocks into ``docs/results.json``, each with the command that repeats it: phrases on held-out procedural scenes,
the cloze and the questions on what no training saw, every way of prompting on real pictures, the protocol of MIU-VL
with few and many shots (Qin et al., ICLR 2023, section 4), a class held out of the fine-tuning, and the time per
picture. Fine-tuning stops and goes on where it was.
"""
from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from promptzoo.cli.bench_detection import chosen_cases, measure_ways, ways_of_prompting
from promptzoo.core.bundles import BundleInfo, get_bundle
from promptzoo.core.seeding import generator
from promptzoo.data.coco_boxes import BoxCase
from promptzoo.evaluation.detection_protocol import class_texts, measure_classes, measure_scenes
from promptzoo.evaluation.summary import hardware, versions

MODULE = "python -m promptzoo.cli.maintain.measure_detection"
BLOCKS = ("scenes", "answers", "ways", "shots", "held-out", "latency")
ITERATIONS = {"1": 30, "10": 60, "100": 80, "full": 100}
"""Steps of four pictures for each number of shots."""
LANGUAGE = "miu-vl-hybrid"
"""The variant whose cloze and answers are networks."""
STYLES = {"default names": "none", "manual attributes": "manual", "automatic attributes": "mlm"}
"""Texts of the fine-tuning and its evaluation; the automatic ones are a cloze over counted words, one per class."""


def main(arguments: list[str] | None = None) -> int:
    """Measure and write; returns the exit code."""
    parser = argparse.ArgumentParser(prog=MODULE, description="Measure detection by words.")
    parser.add_argument("bundle")
    parser.add_argument("--coco", default="", help="COCO file with splits; without it scenes and latency")
    parser.add_argument("--only", default="", help="of " + ", ".join(BLOCKS))
    parser.add_argument("--limit", type=int, help="test pictures; default all")
    parser.add_argument("--count", type=int, default=120, help="procedural scenes")
    parser.add_argument("--seeds", type=int, default=5, help="draws of the shots")
    parser.add_argument("--shots", default="1,10,100,full")
    parser.add_argument("--held-out", default="WBC", help="class that the fine-tuning does not see")
    parser.add_argument("--engine", default="torch")
    options = parser.parse_args(arguments)
    info = get_bundle(options.bundle)
    unknown = set(filter(None, options.only.split(","))) - set(BLOCKS)
    if unknown:
        parser.error(f"--only: got {', '.join(sorted(unknown))}; allowed: {', '.join(BLOCKS)}")
    wanted = [b for b in BLOCKS if b in (options.only.split(",") if options.only else BLOCKS)]
    for block in wanted:
        if options.coco or block in ("scenes", "answers", "latency"):
            _BLOCKS[block](info, options)
    return 0


def _scenes(info: BundleInfo, options: argparse.Namespace) -> None:
    from promptzoo.inference import load_predictor

    predictor = load_predictor(info.path, options.engine)
    _write(info, "phrases, procedural", measure_scenes(predictor, options.count), options, "scenes",
           ["--count", options.count])


def _answers(info: BundleInfo, options: argparse.Namespace) -> None:
    from promptzoo.evaluation.attribute_answers import measure_answers, measure_cloze
    from promptzoo.inference import load_predictor

    predictor, speaking = (load_predictor(info.path, options.engine, variant=name) for name in (None, LANGUAGE))
    found = {"cloze": measure_cloze(speaking.builder.cloze), "questions": measure_answers(predictor, options.count)}
    _write(info, "cloze and questions, held out", found, options, "answers", ["--count", options.count])


def _ways(info: BundleInfo, options: argparse.Namespace) -> None:
    from promptzoo.inference import load_predictor
    from promptzoo.text.attributes.builder import PromptBuilder

    predictor, speaking = (load_predictor(info.path, options.engine, variant=name) for name in (None, LANGUAGE))
    cases, own = chosen_cases(options.coco, limit=options.limit), predictor.builder
    counted = {f"{name}, counts and statistics": PromptBuilder(mode) for name, mode in (
        ("masked LM", "mlm"), ("VQA", "vqa"), ("hybrid", "hybrid"))}
    counted["hybrid, 3 fused and name, counts and VQA"] = PromptBuilder("hybrid", 3, True, own.lay_noun, own.cloze,
                                                                        own.answers)
    found = measure_ways(predictor, cases, {**ways_of_prompting(speaking.builder), **counted})
    wrong = {"RBC": "large blue square cell", "WBC": "small green star", "Platelets": "large red ring"}
    if set(wrong) <= {name for case in cases for name in case.names}:
        found["wrong attributes"] = measure_classes(predictor, cases, wrong)
    _write(info, "ways of prompting, real", found, options, "ways", ["--coco", "coco.json"])


def _shots(info: BundleInfo, options: argparse.Namespace) -> None:
    train, test = chosen_cases(options.coco, "train"), chosen_cases(options.coco, limit=options.limit)
    for shots in options.shots.split(","):
        for seed in range(options.seeds):
            drawn = train if shots == "full" else draw(train, int(shots), seed)
            for style in STYLES:
                if f"seed {seed}" in _block(info, "shots, real").get(f"{shots} shots, {style}", {}):
                    continue
                scores = _tuned(info, drawn, test, style, ITERATIONS[shots], seed)
                print(json.dumps({"shots": shots, "seed": seed, "style": style, **scores}), flush=True)
                block = _block(info, "shots, real")
                row = block.setdefault(f"{shots} shots, {style}", {})
                row[f"seed {seed}"] = scores
                seeds = [value for key, value in row.items() if key.startswith("seed ")]
                for name in ("AP", "AP50"):
                    values = [one[name] for one in seeds]
                    row[f"{name} mean"], row[f"{name} deviation"] = (round(float(f(values)), 4) for f in
                                                                     (np.mean, np.std))
                _write(info, "shots, real", block, options, "shots",
                       ["--coco", "coco.json", "--shots", options.shots, "--seeds", options.seeds])


def _held_out(info: BundleInfo, options: argparse.Namespace) -> None:
    train, test = chosen_cases(options.coco, "train"), chosen_cases(options.coco, limit=options.limit)
    found: dict[str, Any] = {}
    for style in STYLES:
        scores = _tuned(info, train, test, style, ITERATIONS["full"], 0, options.held_out)
        found[style] = scores
        print(json.dumps({"held out": options.held_out, "style": style, **scores}), flush=True)
    _write(info, f"{options.held_out} held out, real", found, options, "held-out",
           ["--coco", "coco.json", "--held-out", options.held_out])


def _tuned(info: BundleInfo, shots: list[BoxCase], test: list[BoxCase], style: str, iterations: int, seed: int,
           held_out: str | None = None) -> dict[str, Any]:
    """AP of the shipped weights after fine-tuning."""
    from promptzoo.inference.loader import load_network
    from promptzoo.text.attributes.builder import PromptBuilder
    from promptzoo.training.detector_shots import few_shot

    network, parser = load_network(info)
    inferer = parser.get_parsed_content("inferer")
    texts = class_texts(sorted({name for case in test for name in case.names}))
    builder = PromptBuilder(STYLES[style])
    said = {name: builder.captions(text)[0].text for name, text in texts.items()}
    learnt = {name: text for name, text in said.items() if name != held_out}
    tuned = few_shot(network, shots, learnt, iterations, seed)
    scores = measure_classes(inferer.predictor(inferer.wrap(tuned)), test, said)
    return {key: value for key, value in scores.items() if key not in ("captions", "seconds_per_image")}


def draw(cases: list[BoxCase], shots: int, seed: int) -> list[BoxCase]:
    """``shots`` pictures, the first of them one that shows every class where there is one."""
    order = generator(seed, 17).permutation(len(cases))
    everything = {name for case in cases for name in case.names}
    complete = [n for n in order if set(cases[n].names) == everything]
    first = complete[:1] or list(order[:1])
    rest = [n for n in order if n not in first]
    return [cases[n] for n in [*first, *rest][:shots]]


def _latency(info: BundleInfo, options: argparse.Namespace) -> None:
    import torch

    from promptzoo.core.volume import Volume
    from promptzoo.evaluation.detection_protocol import scene_volume
    from promptzoo.inference import load_predictor
    from promptzoo.prompts.types import PromptSet, TextPrompt

    rng = generator(5)
    volume: Volume = scene_volume(rng.random((480, 640, 3)).astype(np.float32))
    prompts, found = PromptSet((TextPrompt("large purple round cell"),)), {}
    for engine in ("torch", "openvino"):
        predictor = load_predictor(info.path, engine)
        times = []
        for _ in range(12):
            started = time.perf_counter()
            predictor.decode(predictor.encode(volume), prompts)
            times.append(time.perf_counter() - started)
        found[predictor.engine] = {"ms_p50": round(1000 * float(np.median(times[2:])), 1),
                                   "threads": torch.get_num_threads()}
    _write(info, "latency, 640 x 480 picture", found, options, "latency", [])


def _block(info: BundleInfo, name: str) -> dict[str, Any]:
    place = info.path / "docs" / "results.json"
    content = json.loads(place.read_text()) if place.is_file() else {}
    return dict(content.get(name, {}).get("measured", {}))


def _write(info: BundleInfo, name: str, found: dict[str, Any], options: argparse.Namespace, block: str,
           told: list[Any]) -> None:
    """Put a block into the results."""
    command = " ".join(map(str, [MODULE, info.name, "--only", block, *told]))
    if options.limit:
        command += f" --limit {options.limit}"
    place = Path(info.path / "docs" / "results.json")
    content = json.loads(place.read_text()) if place.is_file() else {}
    content[name] = {"command": command, "engine": options.engine, "measured": found, "hardware": hardware(),
                     "versions": versions()}
    place.write_text(json.dumps(content, indent=1) + "\n")
    print(f"{name}: written", flush=True)


_BLOCKS = {"scenes": _scenes, "answers": _answers, "ways": _ways,
           "shots": _shots, "held-out": _held_out, "latency": _latency}

if __name__ == "__main__":
    sys.exit(main())
