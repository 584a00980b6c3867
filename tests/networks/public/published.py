"""Names and shapes of the published checkpoints, written down from the authors' code, and random tensors for them.

``{a,b}`` stands for each of its items, ``{0..3}`` for each number; a shape belongs to every name. Commits read:
segment-anything dca509f, sam2 2b90b9f, MobileSAM 34bbbfd, MedSAM d71e8a1 (branch LiteMedSAM for that), SAM-Med2D
bfd2b93, SAM-Med3D f3de1fa.
"""
import itertools
import re
import zlib

import numpy as np
import torch


def table(text, prefix=""):
    """``{name: shape}`` of lines ``pattern: sizes; other suffix: sizes``; ``w`` and ``b`` are weight and bias."""
    found = {}
    for line in filter(None, (line.strip() for line in text.splitlines())):
        stem, *parts = re.split(r"\s+(?=\S+=)", line)
        for part in parts:
            suffix, sizes = part.split("=")
            suffix = {"w": ".weight", "b": ".bias", "-": ""}.get(suffix, "." + suffix)
            shape = tuple(int(size) for size in sizes.split("x")) if sizes else ()
            found.update({prefix + name + suffix: shape for name in _each(stem)})
    return found


def _each(pattern):
    pieces = re.split(r"(\{[^}]*\})", pattern)
    options = []
    for piece in pieces:
        if not piece.startswith("{"):
            options.append([piece])
        elif ".." in piece:
            low, high = piece[1:-1].split("..")
            options.append([str(n) for n in range(int(low), int(high) + 1)])
        else:
            options.append(piece[1:-1].split(","))
    return ["".join(parts) for parts in itertools.product(*options)]


NOISE = np.random.default_rng(0).standard_normal(1_000_003, np.float32)

PROMPTS = """
pe_layer.positional_encoding_gaussian_matrix -=2x128
point_embeddings.{0..3} w=1x256
{not_a_point_embed,no_mask_embed} w=1x256
mask_downscaling.0 w=4x1x2x2 b=4
mask_downscaling.1 w=4 b=4
mask_downscaling.3 w=16x4x2x2 b=16
mask_downscaling.4 w=16 b=16
mask_downscaling.6 w=256x16x1x1 b=256
"""
DECODER = """
transformer.layers.{0,1}.self_attn.{q,k,v,out}_proj w=256x256 b=256
transformer.layers.{0,1}.cross_attn_{token_to_image,image_to_token}.{q,k,v}_proj w=128x256 b=128
transformer.layers.{0,1}.cross_attn_{token_to_image,image_to_token}.out_proj w=256x128 b=256
transformer.layers.{0,1}.norm{1..4} w=256 b=256
transformer.layers.{0,1}.mlp.LIN1 w=2048x256 b=2048
transformer.layers.{0,1}.mlp.LIN2 w=256x2048 b=256
transformer.final_attn_token_to_image.{q,k,v}_proj w=128x256 b=128
transformer.final_attn_token_to_image.out_proj w=256x128 b=256
transformer.norm_final_attn w=256 b=256
iou_token w=1x256
mask_tokens w=4x256
output_upscaling.0 w=256x64x2x2 b=64
output_upscaling.1 w=64 b=64
output_upscaling.3 w=64x32x2x2 b=32
output_hypernetworks_mlps.{0..3}.layers.{0,1} w=256x256 b=256
output_hypernetworks_mlps.{0..3}.layers.2 w=32x256 b=32
iou_prediction_head.layers.{0,1} w=256x256 b=256
iou_prediction_head.layers.2 w=4x256 b=4
"""
NECK = """
neck.0 w=256x{width}x1x1
neck.{{1,3}} w=256 b=256
neck.2 w=256x256x3x3
"""


def heads():
    """Prompt encoder and mask decoder of segment-anything."""
    decoder = DECODER.replace("LIN1", "lin1").replace("LIN2", "lin2")
    return {**table(PROMPTS, "prompt_encoder."), **table(decoder, "mask_decoder.")}


def sam_vit_b(size=1024, adapters=False):
    """segment-anything's ViT-B (also MedSAM); with adapters SAM-Med2D."""
    cells = size // 16
    whole, text = "{2,5,8,11}", f"""
    pos_embed -=1x{cells}x{cells}x768
    patch_embed.proj w=768x3x16x16 b=768
    blocks.{{0..11}}.norm{{1,2}} w=768 b=768
    blocks.{{0..11}}.attn.qkv w=2304x768 b=2304
    blocks.{{0..11}}.attn.proj w=768x768 b=768
    blocks.{{0..11}}.mlp.lin1 w=3072x768 b=3072
    blocks.{{0..11}}.mlp.lin2 w=768x3072 b=768
    blocks.{{0,1,3,4,6,7,9,10}}.attn.rel_pos_{{h,w}} -=27x64
    blocks.WHOLE.attn.rel_pos_{{h,w}} -={2 * cells - 1}x64
    """ + NECK.format(width=768)
    if adapters:
        text += """
        blocks.{0..11}.Adapter.norm w=768 b=768
        blocks.{0..11}.Adapter.channel.0 w=192x768
        blocks.{0..11}.Adapter.channel.2 w=768x192
        blocks.{0..11}.Adapter.spatial.0 w=768x768x3x3
        blocks.{0..11}.Adapter.spatial.2 w=768x768x4x4
        """
    return {**table(text.replace("WHOLE", whole), "image_encoder."), **heads()}


def _conv_norm(name, *shape):
    after = shape[0]
    norm = " ".join(f"bn.{part}={after}" for part in ("weight", "bias", "running_mean", "running_var"))
    return f"{name} c.weight={'x'.join(map(str, shape))} {norm} bn.num_batches_tracked=\n"


def tiny_vit(stem=3, classes=1000):
    """MobileSAM; with ``stem`` 1 and no classes LiteMedSAM."""
    widths, text = (64, 128, 160, 320), _conv_norm("patch_embed.seq.0", 32, 3, stem, stem)
    text += _conv_norm("patch_embed.seq.2", 64, 32, stem, stem)
    text += _conv_norm("layers.0.blocks.{0,1}.conv1", 256, 64, 1, 1)
    text += _conv_norm("layers.0.blocks.{0,1}.conv2", 256, 1, 3, 3)
    text += _conv_norm("layers.0.blocks.{0,1}.conv3", 64, 256, 1, 1)
    for n in range(3):
        text += _conv_norm(f"layers.{n}.downsample.conv1", widths[n + 1], widths[n], 1, 1)
        text += _conv_norm(f"layers.{n}.downsample.conv2", widths[n + 1], 1, 3, 3)
        text += _conv_norm(f"layers.{n}.downsample.conv3", widths[n + 1], widths[n + 1], 1, 1)
    for n, blocks, heads_, window in ((1, 2, 4, 7), (2, 6, 5, 14), (3, 2, 10, 7)):
        width, stem_ = widths[n], f"layers.{n}.blocks.{{0..{blocks - 1}}}"
        text += f"""
        {stem_}.attn attention_biases={heads_}x{window * window}
        {stem_}.attn.norm w={width} b={width}
        {stem_}.attn.qkv w={3 * width}x{width} b={3 * width}
        {stem_}.attn.proj w={width}x{width} b={width}
        {stem_}.mlp.norm w={width} b={width}
        {stem_}.mlp.fc1 w={4 * width}x{width} b={4 * width}
        {stem_}.mlp.fc2 w={width}x{4 * width} b={width}
        """ + _conv_norm(f"{stem_}.local_conv", width, 1, 3, 3)
    if classes:
        text += f"norm_head w=320 b=320\nhead w={classes}x320 b={classes}\n"
    return {**table(text + NECK.format(width=320), "image_encoder."), **heads()}


VIDEO = """
maskmem_tpos_enc -=7x1x1x64
{no_mem_embed,no_mem_pos_enc} -=1x1x256
no_obj_ptr -=1x256
no_obj_embed_spatial -=1x64
mask_downsample w=1x1x4x4 b=1
memory_attention.layers.{0..3}.self_attn.{q,k,v,out}_proj w=256x256 b=256
memory_attention.layers.{0..3}.cross_attn_image.{q,out}_proj w=256x256 b=256
memory_attention.layers.{0..3}.cross_attn_image.{k,v}_proj w=256x64 b=256
memory_attention.layers.{0..3}.linear1 w=2048x256 b=2048
memory_attention.layers.{0..3}.linear2 w=256x2048 b=256
memory_attention.layers.{0..3}.norm{1..3} w=256 b=256
memory_attention.norm w=256 b=256
memory_encoder.mask_downsampler.encoder.0 w=4x1x3x3 b=4
memory_encoder.mask_downsampler.encoder.1 w=4 b=4
memory_encoder.mask_downsampler.encoder.3 w=16x4x3x3 b=16
memory_encoder.mask_downsampler.encoder.4 w=16 b=16
memory_encoder.mask_downsampler.encoder.6 w=64x16x3x3 b=64
memory_encoder.mask_downsampler.encoder.7 w=64 b=64
memory_encoder.mask_downsampler.encoder.9 w=256x64x3x3 b=256
memory_encoder.mask_downsampler.encoder.10 w=256 b=256
memory_encoder.mask_downsampler.encoder.12 w=256x256x1x1 b=256
memory_encoder.pix_feat_proj w=256x256x1x1 b=256
memory_encoder.fuser.layers.{0,1} gamma=256
memory_encoder.fuser.layers.{0,1}.dwconv w=256x1x7x7 b=256
memory_encoder.fuser.layers.{0,1}.norm w=256 b=256
memory_encoder.fuser.layers.{0,1}.pwconv1 w=1024x256 b=1024
memory_encoder.fuser.layers.{0,1}.pwconv2 w=256x1024 b=256
memory_encoder.out_proj w=64x256x1x1 b=64
obj_ptr_proj.layers.{0..2} w=256x256 b=256
obj_ptr_tpos_proj w=64x256 b=64
"""


def sam2(third=7):
    """SAM 2.1 with ``third`` blocks in the third stage: 7 tiny, 11 small."""
    text, before, block = """
    pos_embed -=1x96x7x7
    pos_embed_window -=1x96x8x8
    patch_embed.proj w=96x3x7x7 b=96
    """, 96, 0
    for width, count in ((96, 1), (192, 2), (384, third), (768, 2)):
        for n in range(count):
            own = before if n == 0 else width
            text += f"""
            blocks.{block}.norm1 w={own} b={own}
            blocks.{block}.attn.qkv w={3 * width}x{own} b={3 * width}
            blocks.{block}.attn.proj w={width}x{width} b={width}
            blocks.{block}.norm2 w={width} b={width}
            blocks.{block}.mlp.layers.0 w={4 * width}x{width} b={4 * width}
            blocks.{block}.mlp.layers.1 w={width}x{4 * width} b={width}
            """
            if own != width:
                text += f"blocks.{block}.proj w={width}x{own} b={width}\n"
            block += 1
        before = width
    neck = "\n".join(f"convs.{n}.conv w=256x{width}x1x1 b=256" for n, width in enumerate((768, 384, 192, 96)))
    decoder = DECODER.replace("LIN1", "layers.0").replace("LIN2", "layers.1") + """
    obj_score_token w=1x256
    conv_s0 w=32x256x1x1 b=32
    conv_s1 w=64x256x1x1 b=64
    pred_obj_score_head.layers.{0,1} w=256x256 b=256
    pred_obj_score_head.layers.2 w=1x256 b=1
    """
    return {**table(text, "image_encoder.trunk."), **table(neck, "image_encoder.neck."), **table(VIDEO),
            **table(PROMPTS, "sam_prompt_encoder."), **table(decoder, "sam_mask_decoder.")}


def sam_med3d(size=128, depth=12, window=14):
    """SAM-Med3D (``vit_b_ori`` of its code); smaller ones to run."""
    cells, numbers = size // 16, range(depth)
    blocks, whole = "{" + ",".join(map(str, numbers)) + "}", "{" + ",".join(str(n) for n in numbers if n % 3 == 2) + "}"
    parts = "{" + ",".join(str(n) for n in numbers if n % 3 != 2) + "}"
    encoder = f"""
    pos_embed -=1x{cells}x{cells}x{cells}x768
    patch_embed.proj w=768x1x16x16x16 b=768
    blocks.{blocks}.norm{{1,2}} w=768 b=768
    blocks.{blocks}.attn.qkv w=2304x768 b=2304
    blocks.{blocks}.attn.proj w=768x768 b=768
    blocks.{blocks}.mlp.lin1 w=3072x768 b=3072
    blocks.{blocks}.mlp.lin2 w=768x3072 b=768
    blocks.{parts}.attn.rel_pos_{{d,h,w}} -={2 * window - 1}x64
    blocks.{whole}.attn.rel_pos_{{d,h,w}} -={2 * cells - 1}x64
    neck.0 w=384x768x1x1x1
    neck.{{1,3}} w=384 b=384
    neck.2 w=384x384x3x3x3
    """
    prompts = """
    pe_layer.positional_encoding_gaussian_matrix -=3x128
    point_embeddings.{0,1} w=1x384
    {not_a_point_embed,no_mask_embed} w=1x384
    mask_downscaling.0 w=4x1x2x2x2 b=4
    mask_downscaling.1 w=4 b=4
    mask_downscaling.3 w=16x4x2x2x2 b=16
    mask_downscaling.4 w=16 b=16
    mask_downscaling.6 w=384x16x1x1x1 b=384
    """
    decoder = """
    transformer.layers.{0,1}.self_attn.{q,k,v,out}_proj w=384x384 b=384
    transformer.layers.{0,1}.cross_attn_{token_to_image,image_to_token}.{q,k,v}_proj w=192x384 b=192
    transformer.layers.{0,1}.cross_attn_{token_to_image,image_to_token}.out_proj w=384x192 b=384
    transformer.layers.{0,1}.norm{1..4} w=384 b=384
    transformer.layers.{0,1}.mlp.lin1 w=2048x384 b=2048
    transformer.layers.{0,1}.mlp.lin2 w=384x2048 b=384
    transformer.final_attn_token_to_image.{q,k,v}_proj w=192x384 b=192
    transformer.final_attn_token_to_image.out_proj w=384x192 b=384
    transformer.norm_final_attn w=384 b=384
    iou_token w=1x384
    mask_tokens w=4x384
    output_upscaling.0 w=384x96x2x2x2 b=96
    output_upscaling.1 w=96 b=96
    output_upscaling.3 w=96x48x2x2x2 b=48
    output_hypernetworks_mlps.{0..3}.layers.{0,1} w=384x384 b=384
    output_hypernetworks_mlps.{0..3}.layers.2 w=48x384 b=48
    iou_prediction_head.layers.0 w=256x384 b=256
    iou_prediction_head.layers.1 w=256x256 b=256
    iou_prediction_head.layers.2 w=4x256 b=4
    """
    return {**table(encoder, "image_encoder."), **table(prompts, "prompt_encoder."),
            **table(decoder, "mask_decoder.")}


def random_state(shapes):
    """Tensors for ``shapes``; each depends on its name and shape alone, at a scale at which signals survive."""
    return {name: _tensor(name, shape) for name, shape in shapes.items()}


def _tensor(name, shape):
    if not shape:
        return torch.tensor(1)
    start = zlib.crc32(name.encode()) % len(NOISE)
    value = torch.from_numpy(np.resize(np.roll(NOISE, start), shape))  # copies are a tenth of the time of draws
    if name.endswith("running_var"):
        return value.abs_().mul_(0.2).add_(0.8)
    if re.search(r"(norm\w*|bn|\.neck\.[13]|downscaling\.[14]|upscaling\.1)\.weight$", name):
        return value.mul_(0.1).add_(1.0)
    if len(shape) == 1 or "rel_pos" in name or "pos_embed" in name or "biases" in name:
        return value.mul_(0.1)
    if re.search(r"(embed|embeddings\.\d|_tokens?)\.weight$|gaussian_matrix$|no_\w+$", name):
        return value
    return value.mul_(float(np.prod(shape[1:])) ** -0.5)


def example(size, mask_side):
    """An image, points with labels, a box and a mask to start from, for networks of images of ``size`` pixels."""
    unit = size / 256
    image = torch.from_numpy(np.resize(NOISE, (1, 3, size, size)))
    points = torch.tensor([[[120.0, 100.0], [30.0, 220.0]]]) * unit
    box = torch.tensor([[[60.5, 40.0], [200.0, 180.25]]]) * unit
    mask = torch.from_numpy(np.resize(NOISE[7:], (1, 1, mask_side, mask_side)))
    return image, points, torch.tensor([[1, 0]]), box, mask


def example_3d(size):
    """A cube, points with labels and a mask to start from."""
    cube = torch.from_numpy(np.resize(NOISE, (1, 1, size, size, size)))
    points = torch.tensor([[[64.0, 40.0, 70.0], [30.0, 90.0, 20.0]]]) * (size / 128)
    return cube, points, torch.tensor([[1, 0]]), torch.from_numpy(np.resize(NOISE[7:], (1, 1) + (size // 4,) * 3))


def digest(logits, ious):
    """A few numbers of an answer: eight logits spread over it, its spread, the predicted IoU."""
    flat = logits.flatten()
    places = torch.linspace(3, len(flat) - 5, 8).long()
    return {"logits": [round(float(v), 5) for v in flat[places]], "std": round(float(flat.std()), 5),
            "ious": [round(float(v), 5) for v in ious.flatten()]}
