"""Names of tensors: from the layouts that the authors publish to those of ``transformers``.

Layouts: segment-anything (``image_encoder.blocks.0.attn.qkv.weight``; also MedSAM, MobileSAM, SAM-Med2D) and SAM 2
(``image_encoder.trunk.…``, ``sam_mask_decoder.…``).
"""
from __future__ import annotations

import re
from typing import Any, Callable, Mapping

import torch

from promptzoo.core.errors import BundleError, complain

State = Mapping[str, torch.Tensor]
Rules = tuple[tuple[str, str], ...]

_DECODER: Rules = (
    (r"^mask_decoder\.transformer\.norm_final_attn\.", "mask_decoder.transformer.layer_norm_final_attn."),
    (r"^(mask_decoder\.transformer\.layers\.\d+\.)norm(\d)\.", r"\1layer_norm\2."),
    (r"^mask_decoder\.output_upscaling\.0\.", "mask_decoder.upscale_conv1."),
    (r"^mask_decoder\.output_upscaling\.1\.", "mask_decoder.upscale_layer_norm."),
    (r"^mask_decoder\.output_upscaling\.3\.", "mask_decoder.upscale_conv2."),
    (r"^(mask_decoder\.(?:output_hypernetworks_mlps\.\d+|iou_prediction_head|pred_obj_score_head)\.)layers\.0\.",
     r"\1proj_in."),
    (r"^(mask_decoder\.(?:output_hypernetworks_mlps\.\d+|iou_prediction_head|pred_obj_score_head)\.)layers\.1\.",
     r"\1layers.0."),
    (r"^(mask_decoder\.(?:output_hypernetworks_mlps\.\d+|iou_prediction_head|pred_obj_score_head)\.)layers\.2\.",
     r"\1proj_out."))
_PROMPTS: Rules = (
    (r"^prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix$",
     "prompt_encoder.shared_embedding.positional_embedding"),
    (r"^prompt_encoder\.point_embeddings\.(\d)\.weight$", r"prompt_encoder.point_embed.\1.weight"),
    (r"^prompt_encoder\.mask_downscaling\.0\.", "prompt_encoder.mask_embed.conv1."),
    (r"^prompt_encoder\.mask_downscaling\.1\.", "prompt_encoder.mask_embed.layer_norm1."),
    (r"^prompt_encoder\.mask_downscaling\.3\.", "prompt_encoder.mask_embed.conv2."),
    (r"^prompt_encoder\.mask_downscaling\.4\.", "prompt_encoder.mask_embed.layer_norm2."),
    (r"^prompt_encoder\.mask_downscaling\.6\.", "prompt_encoder.mask_embed.conv3."))
_VIT: Rules = (
    (r"^image_encoder\.patch_embed\.proj\.", "image_encoder.patch_embed.projection."),
    (r"^image_encoder\.blocks\.(\d+)\.norm(\d)\.", r"image_encoder.layers.\1.layer_norm\2."),
    (r"^image_encoder\.blocks\.", "image_encoder.layers."),
    (r"^image_encoder\.neck\.0\.", "image_encoder.neck.conv1."),
    (r"^image_encoder\.neck\.1\.", "image_encoder.neck.layer_norm1."),
    (r"^image_encoder\.neck\.2\.", "image_encoder.neck.conv2."),
    (r"^image_encoder\.neck\.3\.", "image_encoder.neck.layer_norm2."))
_ADAPTERS: Rules = (
    (r"^(image_encoder\.layers\.\d+\.mlp\.)lin", r"\1mlp.lin"),
    (r"^(image_encoder\.layers\.\d+\.)Adapter\.", r"\1mlp."))
_HIERA: Rules = (
    (r"^sam_prompt_encoder\.", "prompt_encoder."),
    (r"^sam_mask_decoder\.", "mask_decoder."),
    (r"^no_mem_embed$", "image_encoder.no_memory_embedding"),
    (r"^mask_decoder\.conv_s([01])\.", r"image_encoder.conv_s\1."),
    (r"^image_encoder\.trunk\.patch_embed\.proj\.", "image_encoder.vision.backbone.patch_embed.projection."),
    (r"^image_encoder\.trunk\.blocks\.(\d+)\.norm(\d)\.", r"image_encoder.vision.backbone.blocks.\1.layer_norm\2."),
    (r"^image_encoder\.trunk\.blocks\.(\d+)\.mlp\.layers\.0\.",
     r"image_encoder.vision.backbone.blocks.\1.mlp.proj_in."),
    (r"^image_encoder\.trunk\.blocks\.(\d+)\.mlp\.layers\.1\.",
     r"image_encoder.vision.backbone.blocks.\1.mlp.proj_out."),
    (r"^image_encoder\.trunk\.", "image_encoder.vision.backbone."),
    (r"^image_encoder\.neck\.convs\.(\d)\.conv\.", r"image_encoder.vision.neck.convs.\1."),
    (r"^(mask_decoder\.transformer\..*)out_proj\.", r"\1o_proj."),
    (r"^(mask_decoder\.transformer\.layers\.\d+\.mlp\.)layers\.0\.", r"\1proj_in."),
    (r"^(mask_decoder\.transformer\.layers\.\d+\.mlp\.)layers\.1\.", r"\1proj_out."))

VIDEO = re.compile(r"^(memory_attention\.|memory_encoder\.|mask_downsample\.|maskmem_tpos_enc$|no_mem_pos_enc$|"
                   r"no_obj_ptr$|no_obj_embed_spatial$|obj_ptr_proj\.|obj_ptr_tpos_proj\.)")
"""Tensors of SAM 2 that only tracking through videos uses."""


def _renamed(state: State, rules: Rules) -> dict[str, torch.Tensor]:
    compiled = [(re.compile(pattern), new) for pattern, new in rules]
    result = {}
    for name, value in state.items():
        for pattern, new in compiled:
            name = pattern.sub(new, name)
        result[name] = value
    return result


def from_sam(state: State) -> dict[str, torch.Tensor]:
    """segment-anything names to those of :class:`promptzoo.networks.public.sam.PublicSam`; foreign names stay."""
    return _renamed(state, _VIT + _PROMPTS + _DECODER)


def from_sam_med2d(state: State) -> dict[str, torch.Tensor]:
    """As :func:`from_sam`, with the adapters of SAM-Med2D."""
    return _renamed(from_sam(state), _ADAPTERS)


def from_tiny(state: State) -> dict[str, torch.Tensor]:
    """As :func:`from_sam`, with the image encoder's names as published (TinyViT)."""
    return _renamed(state, _PROMPTS + _DECODER)


def from_sam2(state: State) -> dict[str, torch.Tensor]:
    """SAM 2 names to those of :class:`promptzoo.networks.public.sam2.PublicSam2`, without the tensors of tracking.

    The four point embeddings become one table.
    """
    kept = {name: value for name, value in state.items() if not VIDEO.match(name)}
    found = _renamed(kept, _HIERA + _PROMPTS + _DECODER)
    points = [f"prompt_encoder.point_embed.{n}.weight" for n in range(4)]
    if all(name in found for name in points):
        found["prompt_encoder.point_embed.weight"] = torch.cat([found.pop(name) for name in points])
    return found


CONVERSIONS: dict[str, Callable[[State], dict[str, torch.Tensor]]] = {
    "sam": from_sam, "sam_med2d": from_sam_med2d, "tiny": from_tiny, "sam2": from_sam2, "same": dict}
"""By the ``keys`` of a layout."""


def unwrapped(content: Any, wrapper: str | None, where: str) -> dict[str, torch.Tensor]:
    """The tensors of a loaded file: what lies under ``wrapper``, or the file itself; also of data-parallel training.

    Raises:
        BundleError: if there are none.
    """
    found = content.get(wrapper, content) if wrapper and isinstance(content, Mapping) else content
    if not isinstance(found, Mapping) or not found or not all(isinstance(v, torch.Tensor) for v in found.values()):
        inside = sorted(map(str, content))[:8] if isinstance(content, Mapping) else type(content).__name__
        raise BundleError(complain(f"weights in {where}", inside, "a dictionary of tensors"
                                   + (f", alone or under {wrapper!r}" if wrapper else "")))
    if all(name.startswith("module.") for name in found):
        return {name.removeprefix("module."): value for name, value in found.items()}
    return dict(found)
