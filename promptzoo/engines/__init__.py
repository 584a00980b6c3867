"""Floor 5: a torch network on torch, OpenVINO, ONNX Runtime or TensorRT, behind one call, never silently wrong.

>>> engine = compile_module(network, (window,), key="interactive_refinement_2d 0.1.0")  # doctest: +SKIP
>>> logits, dice = engine(window_array)                                                 # doctest: +SKIP
>>> engine.name, engine.precision, engine.reason                                        # doctest: +SKIP
"""
from promptzoo.engines.compile import CompiledEngine, compile_module
from promptzoo.engines.export import export_bundle_module
from promptzoo.engines.precision import PrecisionChoice, choose_precision
from promptzoo.engines.registry import ENGINES, PRECISIONS, choose_engine, engine_report
from promptzoo.engines.tensorrt_engine import compile_image_encoder
from promptzoo.engines.tolerances import TOLERANCES, Tolerance

__all__ = [
    "ENGINES",
    "PRECISIONS",
    "TOLERANCES",
    "CompiledEngine",
    "PrecisionChoice",
    "Tolerance",
    "choose_engine",
    "choose_precision",
    "compile_image_encoder",
    "compile_module",
    "engine_report",
    "export_bundle_module",
]
