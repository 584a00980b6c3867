"""``promptzoo bench --task detection``: COCO's AP of each way of prompting on pictures with boxes."""
from __future__ import annotations

from pathlib import Path
from typing import Any, Sequence

from promptzoo.cli.common import print_json, print_table, progress, say, waiting
from promptzoo.core.errors import PromptZooError, complain
from promptzoo.core.seeding import generator
from promptzoo.data.coco_boxes import BoxCase, read_coco

MEASURED_SPLIT = "test"


def chosen_cases(path: str, split: str | None = MEASURED_SPLIT, limit: int | None = None, seed: int = 0,
                 match: str | None = None) -> list[BoxCase]:
    """Cases of a COCO file: those of a split if the file has splits, whose name holds ``match``, at most ``limit``
    drawn with the seed.

    Raises:
        PromptZooError: if none is left, or for a limit below 1.
    """
    cases = read_coco(path)
    if split is not None and any(case.split for case in cases):
        cases = [case for case in cases if case.split == split]
    cases = [case for case in cases if match is None or match in case.name]
    if not cases or (limit is not None and limit < 1):
        raise PromptZooError(complain("cases to measure", f"{len(cases)}, limit {limit}", "at least one"))
    if limit is not None and limit < len(cases):
        drawn = generator(seed, 31).permutation(len(cases))[:limit]
        cases = [cases[n] for n in sorted(drawn)]
    return cases


def ways_of_prompting(own: Any) -> dict[str, Any]:
    """Name to :class:`promptzoo.text.attributes.builder.PromptBuilder` with the cloze and the answers of ``own``, in
    the order of the tables."""
    ways: dict[str, tuple[Any, ...]] = {
        "default names": ("none",), "lay nouns": ("noun",), "manual attributes": ("manual",), "masked LM": ("mlm",),
        "masked LM, 3 fused": ("mlm", 3), "VQA": ("vqa",), "hybrid": ("hybrid",), "hybrid, 3 fused": ("hybrid", 3),
        "hybrid, 3 fused and name": ("hybrid", 3, True)}
    return {name: own.asking(*told) for name, told in ways.items()}


def measure_ways(predictor: Any, cases: Sequence[BoxCase], ways: dict[str, Any], quiet: bool = True) -> dict[str, Any]:
    """Every way of prompting on the same encoded pictures, see
    :func:`promptzoo.evaluation.detection_protocol.measure_classes`."""
    from promptzoo.data.io import read_image
    from promptzoo.evaluation.detection_protocol import class_texts, measure_classes

    texts = class_texts(sorted({name for case in cases for name in case.names}))
    states = []
    with progress("Encoding", quiet) as report:
        for number, case in enumerate(cases, 1):
            states.append(predictor.encode(read_image(case.path)))
            report(number, len(cases), case.name)
    results = {}
    for name, builder in ways.items():
        with progress(name, quiet) as report:
            results[name] = measure_classes(predictor.asking(builder), cases, texts, states, report)
    return results


def bench_detection(datalist: str, bundle: str | None, weights: str | None, variant: str | None, engine: str,
                    precision: str, limit: int | None, seed: int, match: str | None, out: Path | None, as_json: bool,
                    command: str) -> None:
    """Measure and print; arguments as those of ``promptzoo bench``. A variant is measured as it is, else every way of
    prompting."""
    from promptzoo.cli.detect import load_detector
    from promptzoo.evaluation.bench import write_results
    from promptzoo.evaluation.summary import hardware, versions

    cases = chosen_cases(datalist, limit=limit, seed=seed, match=match)
    predictor, told = load_detector(bundle or "auto", variant, weights, engine, precision, as_json)
    ways = ways_of_prompting(predictor.builder) if variant is None else {variant: predictor.builder}
    with waiting("Measuring", as_json):
        found = measure_ways(predictor, cases, ways, as_json)
    results = {"command": command, **{k: v for k, v in told.items() if k != "not_for"}, "engine": predictor.engine,
               "datalist": datalist, "n": len(cases), "ways": found, "hardware": hardware(), "versions": versions()}
    if out is not None:
        say(f"Results: {write_results(out, results)}")
    if as_json:
        print_json(results)
        return
    classes = [key.removesuffix(" AP50") for key in next(iter(found.values())) if key.endswith(" AP50")]
    print_table(["prompts", "AP", "AP50", *(f"{name} AP50" for name in classes), "s/image"],
                [[name, block["AP"], block["AP50"], *(block[f"{c} AP50"] for c in classes), block["seconds_per_image"]]
                 for name, block in found.items()], f"{len(cases)} pictures, {predictor.engine}")
