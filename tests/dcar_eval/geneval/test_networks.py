"""GenEval's networks: what they are given, what is read from them, and weights of mmdet."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from PIL import Image
from torch import Tensor, nn
from torchvision import transforms
from transformers.models.mask2former.modeling_mask2former import Mask2FormerForUniversalSegmentation

from dcar_eval.geneval import COLORS
from dcar_eval.geneval.colors import MEAN, STD, ColorClassifier, prepare_crop
from dcar_eval.geneval.detector import UNUSED, Detector, detector_input
from dcar_eval.geneval.mmdet import convert_mmdet, load_mmdet
from dcar_eval.geneval.networks import Judges, check_networks
from dcar_eval.geneval.smoke import random_networks, small_detector
from dcht.errors import CheckpointError
from dcht.images import ImageError


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize(
    ("size", "resized", "padded"),
    [
        ((512, 512), (800, 800), (800, 800)),
        ((1024, 1024), (800, 800), (800, 800)),
        ((500, 1000), (1333, 667), (1344, 672)),
        ((640, 480), (800, 1067), (800, 1088)),
    ],
)
def test_sizes_are_those_of_mmdet(
    size: tuple[int, int], resized: tuple[int, int], padded: tuple[int, int]
) -> None:
    image = Image.new("RGB", size, (124, 116, 104))
    pixels, inside = detector_input(image)
    assert inside == resized
    assert tuple(pixels.shape) == (1, 3, *padded)
    # (124 - 123.675) / 58.395 and so on inside; zeros, not black, around.
    expected = torch.tensor([0.325 / 58.395, -0.28 / 57.12, 0.47 / 57.375])
    assert torch.allclose(pixels[0, :, resized[0] - 1, resized[1] - 1], expected, atol=1e-5)
    assert pixels[0, :, resized[0] :].abs().sum() == 0 == pixels[0, :, :, resized[1] :].abs().sum()


@pytest.mark.parametrize("size", [(30, 30), (100, 37), (37, 101), (224, 224), (3, 40)])
def test_crops_are_prepared_as_torchvision_does(size: tuple[int, int]) -> None:
    image = noise(*size)
    prepare = transforms.Compose(
        [
            transforms.Resize(224, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    theirs: Any = prepare(image)
    assert torch.allclose(prepare_crop(image, 224), theirs, atol=1e-6)


def test_a_strip_does_not_become_an_image_of_a_billion_pixels() -> None:
    """What CLIP would have to cut its square out of; and the detector's has a row at least."""
    with pytest.raises(ImageError, match="too narrow to be made 4480000 x 224"):
        prepare_crop(Image.new("RGB", (40_000, 2)), 224)
    pixels, resized = detector_input(Image.new("RGB", (40_000, 2)))
    assert (resized, tuple(pixels.shape)) == ((1, 1333), (1, 3, 32, 1344))


@pytest.fixture(scope="module")
def networks() -> Judges:
    return random_networks()


def test_a_color_is_the_nearest_mean_of_three_phrases(networks: Judges) -> None:
    classifier = networks.colors
    crop = noise(40, 50)

    def pooled(output: Any) -> Tensor:
        return output.pooler_output[0]

    def embed(text: str) -> Tensor:
        tokens = classifier.tokenizer([text], return_tensors="pt")
        return F.normalize(pooled(classifier.model.get_text_features(**tokens)), dim=0)

    with torch.inference_mode():
        pixels = rearrange(prepare_crop(crop, 64), "c h w -> 1 c h w")
        image = pooled(classifier.model.get_image_features(pixel_values=pixels))
        means = [
            embed(f"a photo of a {color} dining table")
            + embed(f"a photo of a {color}-colored dining table")
            + embed(f"a photo of a {color} object")
            for color in COLORS
        ]
    scores = [float(F.normalize(mean, dim=0) @ image) for mean in means]
    assert classifier.classify(crop, "dining table") == COLORS[int(np.argmax(scores))]


def test_both_networks_come_back_from_their_folders(networks: Judges, tmp_path: Path) -> None:
    networks.detector.model.save_pretrained(tmp_path / "detector")
    networks.colors.model.save_pretrained(tmp_path / "clip")
    networks.colors.tokenizer.save_pretrained(tmp_path / "clip")
    detector = Detector.from_pretrained(tmp_path / "detector")
    colors = ColorClassifier.from_pretrained(tmp_path / "clip")
    assert detector.label == "hf"
    assert detector.sha256 is not None
    for ours, read in (
        (networks.detector.model, detector.model),
        (networks.colors.model, colors.model),
    ):
        for name, value in ours.state_dict().items():
            assert torch.equal(read.state_dict()[name], value), name
    phrase = "a photo of a red-colored bench"
    assert colors.tokenizer(phrase).input_ids == networks.colors.tokenizer(phrase).input_ids
    # They are not smoke any more: random weights do not pass for a detector.
    with pytest.raises(CheckpointError, match="the person in scikit-image's image 'astronaut'"):
        check_networks(Judges(detector, colors))
    with pytest.raises(CheckpointError, match="cannot be loaded as Mask2Former"):
        Detector.from_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"clip lacks \d+ tensors of Mask2Former"):
        Detector.from_pretrained(tmp_path / "clip")


def mmdet_tensors() -> dict[str, Tensor]:
    """mmdet 2.x's names and shapes for `small_detector`, written down apart from the mapping."""
    shapes: dict[str, tuple[int, ...]] = {}

    def both(name: str, *shape: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = shape, shape[:1]

    both("backbone.patch_embed.projection", 8, 3, 4, 4)
    both("backbone.patch_embed.norm", 8)
    for stage, depth in enumerate((1, 2, 1, 1)):
        d, heads = 8 * 2**stage, 2**stage
        for block in range(depth):
            at = f"backbone.stages.{stage}.blocks.{block}"
            both(f"{at}.norm1", d)
            both(f"{at}.norm2", d)
            shapes[f"{at}.attn.w_msa.relative_position_bias_table"] = (49, heads)
            shapes[f"{at}.attn.w_msa.relative_position_index"] = (16, 16)
            both(f"{at}.attn.w_msa.qkv", 3 * d, d)
            both(f"{at}.attn.w_msa.proj", d, d)
            both(f"{at}.ffn.layers.0.0", 4 * d, d)
            both(f"{at}.ffn.layers.1", d, 4 * d)
        if stage < 3:
            shapes[f"backbone.stages.{stage}.downsample.reduction.weight"] = (2 * d, 4 * d)
            both(f"backbone.stages.{stage}.downsample.norm", 4 * d)
        both(f"backbone.norm{stage}", d)
    head = "panoptic_head.pixel_decoder"
    for level, d in enumerate((64, 32, 16)):
        both(f"{head}.input_convs.{level}.conv", 32, d, 1, 1)
        both(f"{head}.input_convs.{level}.gn", 32)
    layer = f"{head}.encoder.layers.0"
    both(f"{layer}.attentions.0.sampling_offsets", 4 * 3 * 4 * 2, 32)
    both(f"{layer}.attentions.0.attention_weights", 4 * 3 * 4, 32)
    both(f"{layer}.attentions.0.value_proj", 32, 32)
    both(f"{layer}.attentions.0.output_proj", 32, 32)
    both(f"{layer}.ffns.0.layers.0.0", 32, 32)
    both(f"{layer}.ffns.0.layers.1", 32, 32)
    both(f"{layer}.norms.0", 32)
    both(f"{layer}.norms.1", 32)
    shapes[f"{head}.level_encoding.weight"] = (3, 32)
    shapes[f"{head}.lateral_convs.0.conv.weight"] = (32, 8, 1, 1)
    both(f"{head}.lateral_convs.0.gn", 32)
    shapes[f"{head}.output_convs.0.conv.weight"] = (32, 32, 3, 3)
    both(f"{head}.output_convs.0.gn", 32)
    both(f"{head}.mask_feature", 32, 32, 1, 1)
    for index in range(2):
        layer = f"panoptic_head.transformer_decoder.layers.{index}"
        for attention in range(2):
            at = f"{layer}.attentions.{attention}.attn"
            shapes[f"{at}.in_proj_weight"], shapes[f"{at}.in_proj_bias"] = (96, 32), (96,)
            both(f"{at}.out_proj", 32, 32)
        both(f"{layer}.ffns.0.layers.0.0", 64, 32)
        both(f"{layer}.ffns.0.layers.1", 32, 64)
        for norm in range(3):
            both(f"{layer}.norms.{norm}", 32)
    both("panoptic_head.transformer_decoder.post_norm", 32)
    shapes["panoptic_head.query_embed.weight"] = (20, 32)
    shapes["panoptic_head.query_feat.weight"] = (20, 32)
    shapes["panoptic_head.level_embed.weight"] = (3, 32)
    both("panoptic_head.cls_embed", 81, 32)
    for index in (0, 2, 4):
        both(f"panoptic_head.mask_embed.{index}", 32, 32)
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def test_every_tensor_of_mmdet_has_its_place(tmp_path: Path) -> None:
    tensors = mmdet_tensors()
    torch.save({"meta": {"epoch": 50}, "state_dict": tensors}, tmp_path / "mmdet.pth")
    detector = load_mmdet(tmp_path / "mmdet.pth", small_detector())
    assert detector.label == "mmdet-weights"
    ours = {k: v for k, v in detector.model.state_dict().items() if k not in UNUSED}
    theirs = {k: v for k, v in tensors.items() if not k.endswith("relative_position_index")}
    # The same numbers, every one of them, once.
    together = [torch.cat([v.flatten() for v in side.values()]).sort() for side in (ours, theirs)]
    assert torch.equal(together[0].values, together[1].values)

    del tensors["panoptic_head.query_feat.weight"]
    tensors["panoptic_head.query_feet.weight"] = torch.zeros(1)
    torch.save({"state_dict": tensors}, tmp_path / "other.pth")
    with pytest.raises(
        CheckpointError, match=r"queries_features\.weight; unexpected: .*query_feet"
    ):
        load_mmdet(tmp_path / "other.pth", small_detector())
    torch.save([1], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="is no checkpoint of mmdet"):
        load_mmdet(tmp_path / "list.pth")
    torch.save({"state_dict": {}, "hostile": print}, tmp_path / "code.pth")
    with pytest.raises(CheckpointError, match="is no checkpoint of mmdet"):
        load_mmdet(tmp_path / "code.pth")


def test_what_is_more_than_a_name_computes_the_same() -> None:
    """mmdet's formulas, written out, against transformers' modules with converted weights."""
    tensors = mmdet_tensors()
    model = Mask2FormerForUniversalSegmentation(small_detector()).eval()
    model.load_state_dict(convert_mmdet(tensors), strict=False)
    swin: Any = model.model.pixel_level_module.encoder.swin.encoder  # type: ignore[union-attr]
    generator = torch.Generator().manual_seed(1)

    # Patch merging: mmdet unfolds, (channel, row, column) in this order.
    at = "backbone.stages.0.downsample"
    x = torch.randn(2, 8, 6, 4, generator=generator)
    patches = rearrange(F.unfold(x, kernel_size=2, stride=2), "b c n -> b n c")
    normed = F.layer_norm(patches, (32,), tensors[f"{at}.norm.weight"], tensors[f"{at}.norm.bias"])
    expected = normed @ tensors[f"{at}.reduction.weight"].T
    ours = swin.layers[0].downsample(rearrange(x, "b c h w -> b (h w) c"), (6, 4))
    assert torch.allclose(ours, expected, atol=1e-5)

    # Window attention: one matrix for queries, keys and values; offsets of 4 x 4 pixels.
    at = "backbone.stages.1.blocks.0.attn.w_msa"
    x = torch.randn(3, 16, 16, generator=generator)
    qkv = F.linear(x, tensors[f"{at}.qkv.weight"], tensors[f"{at}.qkv.bias"])
    q, k, v = rearrange(qkv, "b n (three m d) -> three b m n d", three=3, m=2)
    row = rearrange(torch.arange(4), "i -> i 1") * 7 + torch.arange(4)
    steps = rearrange(row, "i j -> (i j)")
    index = (rearrange(steps, "n -> n 1") + steps).flip(1)
    bias = rearrange(tensors[f"{at}.relative_position_bias_table"][index], "p q m -> m p q")
    weights = (q @ rearrange(k, "b m n d -> b m d n") / 8**0.5 + bias).softmax(dim=-1)
    mixed = rearrange(weights @ v, "b m n d -> b n (m d)")
    expected = F.linear(mixed, tensors[f"{at}.proj.weight"], tensors[f"{at}.proj.bias"])
    attention = swin.layers[1].blocks[0].attention
    assert torch.allclose(attention(x)[0], expected, atol=1e-4)

    # Self-attention among queries: torch's module, as mmcv wraps it.
    at = "panoptic_head.transformer_decoder.layers.0.attentions.1.attn."
    reference = nn.MultiheadAttention(32, 4)
    reference.load_state_dict(
        {k.removeprefix(at): v for k, v in tensors.items() if k.startswith(at)}
    )
    x = torch.randn(20, 1, 32, generator=generator)
    layer: Any = model.model.transformer_module.decoder.layers[0]
    ours, _ = layer.self_attn(hidden_states=x, position_embeddings=torch.zeros_like(x))
    expected, _ = reference(x, x, x)
    assert torch.allclose(ours, expected, atol=1e-5)
