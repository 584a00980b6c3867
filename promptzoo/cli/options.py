"""Options that several commands share, worded once."""
from __future__ import annotations

import typer

ENGINE = typer.Option("auto", help="auto, torch, openvino, onnxruntime or tensorrt.")
PRECISION = typer.Option("auto", help="auto, fp32, bf16, fp16 or int8.")
VARIANT = typer.Option(None, help="Catalog id of a variant overlay of the bundle.")
WEIGHTS = typer.Option(None, help="Public weights in the place of a bundle, see: promptzoo weights list.")
MODALITY = typer.Option(None, help="Only these modalities; commas or several times.")
TASK = typer.Option(None, help="Only these of seg2d, seg3d, seg. Default: what the bundle's dimensions allow. "
                               "detection: AP of boxes, DATALIST is a COCO file.")
MATCH = typer.Option(None, help="Only rows whose id or image path holds this text.")
SLICES = typer.Option("auto", help="largest: measure 3D rows on their largest slice; none: as volumes; auto: largest "
                                   "for 2D bundles.")
