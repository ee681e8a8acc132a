"""The settings of `dcar-train`, with the paper's values (Table 8) as defaults.

Neither torch nor hydra is imported here. `dcar.conf` hands these classes to Hydra as the schema.
Enum members are spelled as their values, because Hydra reads the names.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated

from dcar.config import DCARConfig, LossConfig, Rounding, SamplingConfig, Schedule
from dcht.config import TokenizerConfig, parse_size
from dcht.engine.trackers import Tracker
from dcht.errors import UsageError
from dcht.ranges import PATH, SEED, SHARE, Length, Range, check_ranges


class DataKind(Enum):
    """Where training images come from; all but latents are encoded on the fly."""

    latents = "latents"
    """A folder that `dcht encode` wrote."""
    folder = "folder"
    """Images with a `.txt` or `.json` beside each, or named by a list."""
    webdataset = "webdataset"
    """The same in tar archives: one, a folder of them, or a pattern."""
    imagenet = "imagenet"
    """A folder a class; captions are made of the classes' names."""
    journeydb = "journeydb"
    """A split of JourneyDB; captions are its prompts and captions."""


@dataclass(kw_only=True)
class SourceConfig:
    """One source of images with captions."""

    kind: DataKind
    root: Annotated[str, PATH]
    """Where they are, as the kind has it (`docs/finetune.md`)."""
    latents: Annotated[str | None, PATH] = None
    """The store that `dcht encode ROOT` wrote: read instead of encoding the images on the fly."""
    weight: Annotated[float | None, Range(0, 1e9, above=True)] = None
    """Its share of the samples, in proportion to those of the other sources of a mixture; None
    for all of them makes every image as likely."""
    follow_links: bool = False
    """Whether links in folders may lead out of them, and to folders."""

    def __post_init__(self) -> None:
        """Refuse values without sense."""
        check_ranges(self)
        if self.kind is DataKind.latents and self.latents is not None:
            raise UsageError(
                f"data.latents={self.latents} is the store of a folder of images, and "
                f"{self.root} is one itself; name one of them, or data=folder"
            )
        if self.follow_links and self.kind in (DataKind.latents, DataKind.journeydb):
            raise UsageError(
                f"data.follow_links is of folders of images, and data={self.kind.value} looks for "
                "none; of latents, dcht encode --follow-links decides"
            )


@dataclass(kw_only=True)
class DataConfig(SourceConfig):
    """The training data: a source, and others that are mixed with it."""

    mixture: list[SourceConfig] = field(default_factory=list)
    """The other sources."""
    size: Annotated[int, Range(32, 8192)] = 256
    """Side in pixels that images are resized and cropped to; latents have their own."""
    buckets: list[str] = field(default_factory=list)
    """Sizes WIDTHxHEIGHT in place of `size`: each image takes the one nearest to its shape."""
    flip: bool = False
    """Show images mirrored, too, but for those whose caption says left or right. Of latents,
    `dcht encode --flip both` decides."""

    def __post_init__(self) -> None:
        """Refuse weights that say nothing, and options that nothing would heed."""
        super().__post_init__()
        sources = (self, *self.mixture)
        weights = [source.weight for source in sources]
        given = [weight for weight in weights if weight is not None]
        if given and (len(given) < len(weights) or min(given) <= 0):
            raise UsageError(
                f"data weights are {weights}; give every source one above 0, or none of them"
            )
        for size in self.buckets:
            parse_size(size)
        stored = [s.kind is DataKind.latents or s.latents is not None for s in sources]
        for name, option in (("flip", "--flip both"), ("buckets", "--size, a store each size")):
            if getattr(self, name) and all(stored):
                raise UsageError(
                    f"data.{name} is of images that are encoded on the fly; of latents dcht encode "
                    f"decides ({option})"
                )


class Parallel(Enum):
    """How several ranks hold the model; one process alone needs neither."""

    ddp = "ddp"
    """A copy on each."""
    fsdp2 = "fsdp2"
    """Weights, gradients, optimizer and average in shards: memory shrinks with every rank."""


class PublishDtype(Enum):
    """Precision of the weights that a run publishes."""

    float32 = "float32"
    float16 = "float16"


@dataclass(kw_only=True)
class OptimizerConfig:
    """AdamW with a cosine schedule (Table 8)."""

    lr: Annotated[float, Range(0, 100, above=True)] = 1e-4
    """The highest learning rate."""
    final_lr: Annotated[float, Range(0, 100)] = 1e-5
    """# not in paper: 1d-tokenizer's, as are the warm-up, the clip and the EMA decay."""
    warmup_steps: Annotated[int, Range(0)] = 10_000
    """Steps in which the rate rises from 0."""
    betas: Annotated[list[float], Length(2, 2), SHARE] = field(default_factory=lambda: [0.9, 0.96])
    """Of AdamW's two averages."""
    weight_decay: Annotated[float, Range(0, 1e6)] = 0.03
    """Not on norms, biases, embeddings and the head (1d-tokenizer, MAR)."""
    clip: Annotated[float, Range(0, 1e9, above=True)] = 1.0
    """Of the gradient's norm: of all weights together, or without the head's, see `head_clip`."""
    head_clip: Annotated[float | None, Range(0, 1e9, above=True)] = None
    """Of the norm of the residual head's gradient, apart from the rest's, so that neither shrinks
    the other; None: one norm for all. # not in paper."""
    ema_decay: Annotated[float, SHARE] = 0.999
    """Of the averaged weights that are evaluated and published."""

    def __post_init__(self) -> None:
        """Refuse values without sense."""
        check_ranges(self)


@dataclass(kw_only=True)
class LoraConfig:
    """Fine-tuning through low-rank matrices (extra `lora`); see `dcar.train.lora`."""

    rank: int = 0
    """0 trains all weights; 8 to 64 is usual."""
    scale: Annotated[float, Range(0, 1e6, above=True)] = 1.0
    """Of the update: LoRA's alpha / rank."""

    def __post_init__(self) -> None:
        """Refuse a negative rank."""
        check_ranges(self)
        if self.rank < 0:
            raise UsageError(f"lora.rank is {self.rank}; expected 0 (all weights) or more")


@dataclass(kw_only=True)
class TrainConfig:
    """Everything a run of `dcar-train` depends on; what has no default must be given."""

    model: DCARConfig = field(default_factory=DCARConfig)
    tokenizer: TokenizerConfig
    """Layout of the image tokenizer; the one that is loaded must have it."""
    tokenizer_ckpt: Annotated[str | None, PATH] = None
    """Folder or Hub id of the image tokenizer; None is the bundled one."""
    data: DataConfig
    init_from: Annotated[str, PATH]
    """`scratch`, `bundled`, or a published generator (folder or Hub id) to start from."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    text_cache: Annotated[str | None, PATH] = None
    """Folder that keeps the embeddings of a frozen T5, so that each caption is encoded once."""
    out: Annotated[str, PATH]
    """Folder of the run; the same command on the same folder continues."""
    force: bool = False
    """Start anew in an `out` that holds a run with other settings."""
    steps: Annotated[int, Range(1, 10**9)] = 200_000
    """Length of the run, in optimizer steps."""
    batch_size: Annotated[int, Range(1, 1 << 20)] = 1024
    """Of all ranks together (Table 8)."""
    accumulate: Annotated[int, Range(1)] = 1
    """Micro-batches that each rank's part of a batch is split into."""
    bf16: bool | None = None
    """bf16 autocast; None: on a GPU, and not on a CPU, where it is 1.2 to 2 times as fast with
    instructions for it (AVX512-BF16, AMX) and slower without."""
    activation_checkpointing: bool = False
    """Keep only what enters each block, and compute the rest again for the gradients."""
    compile: bool = False
    """torch.compile of the blocks and the head."""
    parallel: Parallel = Parallel.ddp
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    mask_schedule: Schedule = Schedule.arccos
    """Law of the share of a sample's tokens that is masked: that of the sampler's steps, at a place
    sampled uniformly. # not in paper: 1d-tokenizer's and the release's."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    """Settings of the sample grids, recorded in the published checkpoint."""
    rounding: Rounding = Rounding.nearest
    """Of pixels to 8 bits, as `sampling`; a run that starts from a checkpoint has that one's."""
    prompts: list[str] = field(default_factory=list)
    """Fixed prompts of the sample grids."""
    reconstructions: Annotated[int, Range(0, 1024)] = 4
    """How many of the first training images are generated again from their captions beside them."""
    evaluations: list[str] = field(default_factory=list)
    """Names in the entry-point group `dcar.evaluations`; see `dcar.train.evaluate`."""
    log_every: Annotated[int, Range(1)] = 50
    """Steps between two rows of `metrics.jsonl`."""
    sample_every: Annotated[int, Range(1)] = 5000
    """For the images of prompts and reconstructions."""
    evaluate_every: Annotated[int, Range(1)] = 5000
    """Steps between two runs of `evaluations`."""
    save_every: Annotated[int, Range(1)] = 5000
    """Steps between two saves."""
    save_minutes: Annotated[float, Range(0, above=True)] = 10.0
    """Save after so much time without a save, too."""
    keep_saves: Annotated[int, Range(1)] = 2
    """How many saves to resume from stay on disk."""
    trackers: list[Tracker] = field(default_factory=lambda: [Tracker.tensorboard])
    """Where curves and images are shown beside `metrics.jsonl` and `samples/`."""
    publish_dtype: PublishDtype = PublishDtype.float32
    seed: Annotated[int, SEED] = 0
    """What everything random depends on."""
    device: str = "auto"
    """`auto` (the best there is), `cpu`, `cuda[:n]` or `mps`."""

    def __post_init__(self) -> None:
        """Refuse a batch that cannot be split."""
        check_ranges(self)
        if self.loss.diffusion == 0 and self.loss.cross_entropy == 0:
            raise UsageError("loss.cross_entropy and loss.diffusion are both 0: nothing is learned")
        if self.model.discrete_only and self.loss.cross_entropy == 0:
            raise UsageError(
                "loss.cross_entropy is 0, and model.discrete_only leaves nothing else to learn"
            )
        if self.batch_size % self.accumulate:
            raise UsageError(
                f"batch_size {self.batch_size} is not a multiple of accumulate {self.accumulate}"
            )
