"""What a generator is made of and how it is sampled, as plain dataclasses.

Defaults are the paper's (section 4.1, Table 8); what it leaves open says so. The settings of the
sampler are in `dcar.sampling_config`, and are here too, so that one module has every setting.
Neither torch nor hydra is imported here. The dataclasses are not frozen because Hydra composes over
them: presets are shared, so derive with `dataclasses.replace` and never assign.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated

from dcar.sampling_config import MAX_STEPS as MAX_STEPS
from dcar.sampling_config import SAMPLING_PRESETS as SAMPLING_PRESETS
from dcar.sampling_config import Guidance as Guidance
from dcar.sampling_config import HeadGuidance as HeadGuidance
from dcar.sampling_config import Order as Order
from dcar.sampling_config import SamplingConfig as SamplingConfig
from dcar.sampling_config import Schedule as Schedule
from dcar.sampling_config import Selector as Selector
from dcar.sampling_config import Solver as Solver
from dcar.sampling_config import with_preset as with_preset
from dcht.errors import UsageError
from dcht.ranges import SHA256, SHARE, WEIGHTLESS, WRITTEN_IF_SET, Length, Range, check_ranges

WIDTH = Range(1, 16384)
DEPTH = Range(1, 256)
SIDE = Range(1, 65536)
NAME = Length(1, 4096)
"""Limits that several fields share: sizes beyond these are built nowhere."""


class Rounding(Enum):
    """How a decoded value becomes one of 256."""

    nearest = "nearest"
    down = "down"
    """The published release truncates."""


SAFETY_THRESHOLD = 0.2
"""P(Yes) from which a prompt is rejected. # not in paper: it says strict; Sana's is 0.2."""


@dataclass(kw_only=True)
class GeneratorConfig:
    """The masked transformer: PixArt-alpha's block without adaptive norms (section 4.1)."""

    codebook_size: Annotated[int, Range(1, 1 << 20)] = 16384
    """Number of codes of the image tokenizer; the mask token is one more input id."""
    depth: Annotated[int, DEPTH] = 28
    """Blocks of the transformer."""
    width: Annotated[int, WIDTH] = 1152
    """d, its width."""
    num_heads: Annotated[int, WIDTH] = 16
    """Of its attention."""
    mlp_dim: Annotated[int, Range(1, 65536)] = 4608
    """Width inside of a block's MLP."""
    qk_norm: bool = False
    """LayerNorm over the full width of queries and keys in self-attention (the release)."""
    text_dim: Annotated[int, WIDTH] = 768
    """Width of the text embeddings."""
    text_length: Annotated[int, Range(1, 4096)] = 120
    """Number of text tokens, padded. # not in paper: PixArt-alpha's; the release has 300."""
    attention_dropout: Annotated[float, Range(0, 1, below=True), WEIGHTLESS] = 0.1
    """In training only (Table 8)."""
    cond_dropout: Annotated[float, Range(0, 1), WEIGHTLESS] = 0.1
    """Share of the captions replaced by the null caption in training (Table 8)."""
    fully_masked: Annotated[float, SHARE, WEIGHTLESS] = 0.0
    """Share of the samples that have every index hidden in training, beside those of the law.
    # not in paper: there the text alone says what is where, and other samples hardly teach it."""
    position_extent: Annotated[float, Range(0, 1e6, above=True)] = 16.0
    """Positions run from 0 to this on every grid. # not in paper: the release's (base_size)."""

    def __post_init__(self) -> None:
        """Refuse sizes that cannot be built."""
        check_ranges(self)
        if self.width % self.num_heads:
            raise UsageError(f"width {self.width} is not a multiple of num_heads {self.num_heads}")
        if self.width % 4:
            raise UsageError(f"width {self.width} is not a multiple of 4 (2-D sin-cos positions)")


@dataclass(kw_only=True)
class HeadConfig:
    """The residual diffusion head: MAR's MLP (section 3.2)."""

    latent_channels: Annotated[int, Range(1, 8192)] = 32
    """c, the tokenizer's."""
    condition_dim: Annotated[int, WIDTH] = 1152
    """Width of the transformer's hidden states."""
    depth: Annotated[int, DEPTH] = 6
    """Blocks of the MLP."""
    width: Annotated[int, WIDTH] = 1024
    """# not in paper: 1024 gives 36.19 M, and 671 M in total (Table 2)."""
    batch_mul: Annotated[int, Range(1, 1024), WEIGHTLESS] = 4
    """Noise levels for each position in training. # not in paper: MAR, HART, the release."""
    residual_std: Annotated[float, Range(0, 1e6, above=True), WEIGHTLESS] = 0.107
    """The target is the residual divided by this: the tokenizer's measured standard deviation."""
    clip: Annotated[float | None, Range(0, 1e6, above=True), WEIGHTLESS] = 4.0
    """Bound on the denoised target while sampling, in standard deviations; None is none.
    # not in paper: MAR has none, HART and the release 1, which cuts a third of a Gaussian."""

    def __post_init__(self) -> None:
        """Refuse sizes that cannot be built."""
        check_ranges(self)


@dataclass(kw_only=True)
class JointTextConfig:
    """A small randomly initialized T5 encoder, trained jointly with the generator."""

    depth: Annotated[int, DEPTH] = 2
    num_heads: Annotated[int, WIDTH] = 4
    positions: Annotated[bool, WEIGHTLESS] = False
    """Add sin-cos positions to what it says of each word. # not in paper: T5 has only biases by
    distance, from which a small one learns the order of words very late, if ever."""
    vocabulary: Annotated[int, Range(4, 1 << 20), WEIGHTLESS] = 2048
    """Most words that the word-level tokenizer learns from the captions."""
    names: Annotated[list[str], Length(0, 1 << 20), WEIGHTLESS] = field(
        default_factory=list, metadata=WRITTEN_IF_SET
    )
    """Of the things that captions show, in the singular ("fire truck"): what `--list-words` lists,
    and what a prompt is told to ask for. None: every word that has a plural counts as a name."""

    def __post_init__(self) -> None:
        """Refuse sizes that cannot be built."""
        check_ranges(self)


@dataclass(kw_only=True)
class ClassesConfig:
    """Classes in place of a text: an embedding each, trained with the generator. # not in paper."""

    names: Annotated[list[str], Length(0, 1 << 20), WEIGHTLESS] = field(default_factory=list)
    """Of the classes, by number. A run has those of its data set, after those of the checkpoint
    that it starts from."""

    def __post_init__(self) -> None:
        """Refuse names that are not names."""
        check_ranges(self)


@dataclass(kw_only=True)
class TextConfig:
    """The text encoder; its width and length are the generator's `text_dim` and `text_length`."""

    name: Annotated[str | None, NAME] = "google-t5/t5-base"
    """Hub id or local folder of a T5 that stays frozen; None with `joint` or `classes`."""
    joint: JointTextConfig | None = None
    """A small encoder that is trained jointly; None with `name` or `classes`."""
    sees_mask: bool = True
    """Whether padding is hidden from T5 itself. The release does not hide it."""
    classes: ClassesConfig | None = field(default=None, metadata=WRITTEN_IF_SET)
    """The names of classes are the prompts."""

    def __post_init__(self) -> None:
        """Exactly one kind of encoder."""
        check_ranges(self)
        kinds = (self.name, self.joint, self.classes)
        if (given := sum(kind is not None for kind in kinds)) != 1:
            raise UsageError(
                "a text encoder needs one of name (a frozen T5), joint (a small one) and classes; "
                f"{given} are given"
            )


@dataclass(kw_only=True)
class DCARConfig:
    """Generator, head and the text encoder that they were made for."""

    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    text: TextConfig = field(default_factory=TextConfig)
    discrete_only: bool = False
    """No residual and no head: the baseline of Table 4."""

    def __post_init__(self) -> None:
        """The head is conditioned on the transformer's hidden states."""
        if self.head.condition_dim != self.generator.width:
            raise UsageError(
                f"head.condition_dim {self.head.condition_dim} is not generator.width "
                f"{self.generator.width}"
            )
        joint = self.text.joint
        if joint is not None and joint.num_heads > self.generator.text_dim:
            raise UsageError(
                f"text.joint.num_heads {joint.num_heads} is more than generator.text_dim "
                f"{self.generator.text_dim}"
            )


@dataclass(kw_only=True)
class TokenizerReference:
    """The image tokenizer a generator was trained on."""

    sha256: Annotated[str, SHA256]
    location: Annotated[str, NAME]
    """`bundled`, a folder relative to the checkpoint, or a Hub id."""

    def __post_init__(self) -> None:
        """Refuse what names no tokenizer."""
        check_ranges(self)


@dataclass(kw_only=True)
class CheckpointConfig:
    """The `config.json` of a published generator."""

    model: DCARConfig
    tokenizer: TokenizerReference
    sampling: SamplingConfig
    """What it is sampled with unless the caller says otherwise."""
    height: Annotated[int, SIDE]
    width: Annotated[int, SIDE]
    """Size in pixels that it was trained on last."""
    rounding: Rounding = Rounding.nearest
    """Of its pixels."""

    def __post_init__(self) -> None:
        """Refuse a size that no image has."""
        check_ranges(self)


@dataclass(kw_only=True)
class LossConfig:
    """Cross-entropy on masked indices plus the diffusion loss on all residuals (Table 8)."""

    cross_entropy: Annotated[float, Range(0, 1e6)] = 1.0
    """Weight of the masked indices' loss."""
    diffusion: Annotated[float, Range(0, 1e6)] = 1.0
    """Weight of the residuals' loss."""
    detach: bool = False
    """The residuals' loss trains the head alone: the transformer is what it would be without one
    (with `optimizer.head_clip`, to the bit). # not in paper: an arm of Table 4 in miniature."""
    label_smoothing: Annotated[float, SHARE] = 0.0
    """# not in paper: MaskGIT and 1d-tokenizer have 0.1."""
    unmasked_weight: Annotated[float, Range(0, 1e6)] = 0.0
    """Weight of positions that were not masked. # not in paper: 1d-tokenizer has 0.1."""

    def __post_init__(self) -> None:
        """Refuse values without sense."""
        check_ranges(self)


PRESETS: dict[str, DCARConfig] = {
    # The paper: 634.94 M + 36.19 M parameters = Table 2's 671 M.
    "dcar_671m": DCARConfig(),
    # The published release `mit-han-lab/dc-ar-512`: qk-norm, 300 text tokens, T5 without a mask.
    "dc_ar_512": DCARConfig(
        generator=GeneratorConfig(qk_norm=True, text_length=300),
        head=HeadConfig(clip=1.0),
        text=TextConfig(sees_mask=False),
    ),
    # The paper's, told a class instead of a text: for tokenizers to be compared on ImageNet.
    "dcar_classes": DCARConfig(
        generator=GeneratorConfig(text_length=1),
        text=TextConfig(name=None, classes=ClassesConfig()),
    ),
    # The bundled one, for two cores: 5 M parameters with its text encoder. Attention dropout would
    # cost the fused kernel, more noise levels a position a fifth of the time each.
    "small": DCARConfig(
        generator=GeneratorConfig(
            codebook_size=512, depth=6, width=192, num_heads=6, mlp_dim=768, qk_norm=True,
            text_dim=128, text_length=24, attention_dropout=0.0, fully_masked=0.25,
        ),
        head=HeadConfig(condition_dim=192, depth=3, width=192, batch_mul=1),
        text=TextConfig(name=None, joint=JointTextConfig(positions=True)),
    ),
    # For tests: milliseconds a step.
    "tiny": DCARConfig(
        generator=GeneratorConfig(
            codebook_size=64, depth=2, width=32, num_heads=4, mlp_dim=64,
            text_dim=16, text_length=8, attention_dropout=0.0,
        ),
        head=HeadConfig(latent_channels=8, condition_dim=32, depth=2, width=32, batch_mul=1),
        text=TextConfig(name=None, joint=JointTextConfig(depth=1, num_heads=2, vocabulary=64)),
    ),
}  # fmt: skip
"""Named models, shared by Python, the command line and Hydra."""
