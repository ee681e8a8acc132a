"""The settings of `dcht-train`, with the paper's values (Table 7) as defaults.

Neither torch nor hydra is imported here. `dcht.conf` hands these classes to Hydra as the schema.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Annotated, NamedTuple

from dcht.config import CoderConfig, TokenizerConfig
from dcht.engine.trackers import Tracker
from dcht.errors import UsageError
from dcht.loss_config import LossConfig as LossConfig
from dcht.loss_config import LPIPSNet as LPIPSNet
from dcht.loss_config import StageLoss as StageLoss
from dcht.ranges import PATH, SEED, SHARE, Length, Range, check_ranges


class Stage(Enum):
    """The three stages of section 3.1, in the paper's order."""

    continuous_warmup = "continuous_warmup"
    discrete_learning = "discrete_learning"
    alternate_finetune = "alternate_finetune"


class Strategy(Enum):
    """How the same budget is spent: the rows of the paper's Table 5."""

    three_stage = "three_stage"
    """Continuous warm-up, discrete learning, alternate fine-tuning of the decoder."""
    no_warmup = "no_warmup"
    """Discrete learning takes over the warm-up's length."""
    alternate_all_trainable = "alternate_all_trainable"
    """After the warm-up, both paths with everything trainable, as HART does; this takes over the
    length of discrete learning."""


TAKEN_OVER: dict[Strategy, dict[Stage, Stage]] = {
    Strategy.three_stage: {},
    Strategy.no_warmup: {Stage.continuous_warmup: Stage.discrete_learning},
    Strategy.alternate_all_trainable: {Stage.discrete_learning: Stage.alternate_finetune},
}
"""The stage that a strategy leaves out, and the one that takes over its length.

# not in paper: the budgets of Table 5's rows. That all three see as many images is our choice.
"""


class PublishDtype(Enum):
    """The precision of published weights."""

    float32 = "float32"
    float16 = "float16"


@dataclass(kw_only=True)
class StageConfig:
    """What a stage trains, on which path, for how long."""

    discrete_prob: float
    """Probability that an image takes the discrete path: 0 is Z only, 1 is Z_q only."""
    train_encoder: bool
    """Whether the encoder's weights move."""
    train_codebook: bool
    """Whether the codes move."""
    epochs: Annotated[float | None, Range(0, 1e6, above=True)] = None
    """Length in passes over the training images; `steps` wins over it."""
    steps: Annotated[int | None, Range(1, 10**9)] = None
    """Length in optimizer steps; wins over `epochs`."""
    loss: StageLoss = field(default_factory=StageLoss)
    """What the stage changes of the run's `loss`. # not in paper."""

    def __post_init__(self) -> None:
        """Refuse a stage that could not do what it says."""
        check_ranges(self)
        if not 0 <= self.discrete_prob <= 1:
            raise UsageError(f"discrete_prob is {self.discrete_prob}; expected 0 to 1")
        if self.train_codebook and not self.discrete_prob:
            raise UsageError("train_codebook needs images on the discrete path: discrete_prob > 0")
        if self.steps is None and self.epochs is None:
            raise UsageError("a stage needs a length: epochs or steps")

    def num_steps(self, num_images: int, batch_size: int) -> int:
        """Length in optimizer steps over a data set of this size."""
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None
        return max(1, round(self.epochs * num_images / batch_size))


class PlannedStage(NamedTuple):
    """A stage as its strategy has it; as long as `lengths` together."""

    name: str
    settings: StageConfig
    lengths: list[StageConfig]

    def num_steps(self, num_images: int, batch_size: int) -> int:
        """Length in optimizer steps over a data set of this size."""
        return sum(length.num_steps(num_images, batch_size) for length in self.lengths)


@dataclass(kw_only=True)
class DataConfig:
    """Images, resized, cropped and mirrored."""

    root: Annotated[str, PATH]
    """Where they are, as `dcht encode` takes it: a folder (searched with its subfolders, and tar
    archives in it), a `.tar`, a list of paths, or a pattern of such."""
    follow_links: bool = False
    """Whether links in folders may lead out of them, and to folders."""
    size: Annotated[int, Range(32, 8192)] = 256
    """The short side is resized to this."""
    crop: int = 256
    """Side of the square that is cropped out, a multiple of 32."""
    random_crop: bool = True
    """Crop anywhere; otherwise the center."""
    flip: bool = True
    """Mirror half of the images."""
    num_val: int = 64
    """Images kept out of training, spread over all by name: validation and samples."""
    cache: bool = False
    """Decode once and keep resized images in memory as bytes (20,000 of 256 px: 3.9 GB)."""
    workers: Annotated[int, Range(0, 1024)] = 4
    """Decoding processes; with `cache`, threads that fill it at the start."""

    def __post_init__(self) -> None:
        """Refuse crops that cannot be cut or encoded, and a run that cannot be validated."""
        if self.crop % 32 or not 0 < self.crop <= self.size:
            raise UsageError(
                f"data.crop is {self.crop}; expected a multiple of 32 up to data.size={self.size}"
            )
        if self.num_val < 1:
            raise UsageError(f"data.num_val is {self.num_val}; expected at least 1")
        check_ranges(self)


@dataclass(kw_only=True)
class OptimizerConfig:
    """Adam for the tokenizer and, with the same settings, for the discriminator."""

    lr: Annotated[float, Range(0, 100, above=True)] = 1e-4
    """The learning rate."""
    final_lr: Annotated[float | None, Range(0, 100)] = None
    """None: constant, as in the paper. A value: cosine decay to it within each stage."""
    warmup_steps: Annotated[int, Range(0)] = 0
    """Steps of each stage in which the rate rises from 0."""
    betas: Annotated[list[float], Length(2, 2), SHARE] = field(default_factory=lambda: [0.9, 0.95])
    """Of Adam's two averages."""
    grad_clip: Annotated[float, Range(0, 1e9, above=True)] = 1.0
    """Largest gradient norm. # not in paper: LlamaGen's value."""
    ema_decay: Annotated[float, SHARE] = 0.9999
    """Of the averaged weights that are evaluated and published. # not in paper."""

    def __post_init__(self) -> None:
        """Refuse values without sense."""
        check_ranges(self)


@dataclass(kw_only=True)
class CodebookConfig:
    """Help for the codebook; all of it off by default. # not in paper."""

    kmeans_start: bool = False
    """Start a stage that trains the codebook from k-means over the latents it finds."""
    revive_every: Annotated[int, Range(0)] = 0
    """Every so many steps, move codes that the window did not see to latents of the batch."""
    window: Annotated[int, Range(1, 1 << 28)] = 65_536
    """How many of the latest indices usage and perplexity are measured over."""

    def __post_init__(self) -> None:
        """Refuse values without sense."""
        check_ranges(self)


@dataclass(kw_only=True)
class TrainConfig:
    """A run of `dcht-train`."""

    out: Annotated[str, PATH]
    """The run's folder: log, samples, resume files, and `tokenizer/`, the published result."""
    tokenizer: TokenizerConfig
    data: DataConfig
    strategy: Strategy = Strategy.three_stage
    stages: list[Stage] = field(default_factory=lambda: list(Stage))
    """Which of the strategy's stages to run."""
    continuous_warmup: StageConfig = field(
        default_factory=lambda: StageConfig(
            discrete_prob=0.0, train_encoder=True, train_codebook=False, epochs=10
        )
    )
    discrete_learning: StageConfig = field(
        default_factory=lambda: StageConfig(
            discrete_prob=1.0, train_encoder=True, train_codebook=True, epochs=40
        )
    )
    alternate_finetune: StageConfig = field(
        default_factory=lambda: StageConfig(
            discrete_prob=0.5, train_encoder=False, train_codebook=False, epochs=10
        )
    )
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    codebook: CodebookConfig = field(default_factory=CodebookConfig)
    light: CoderConfig | None = None
    """The layout of a light decoder: the run trains one for `init_from`, whose own parts all stay
    as they are (`dcht.light`)."""
    init_from: Annotated[str | None, PATH] = None
    """A published tokenizer to start from (folder or Hub id); None: random weights."""
    batch_size: Annotated[int, Range(1, 1 << 20)] = 128
    """Images a step, of all ranks together."""
    seed: Annotated[int, SEED] = 0
    """What everything random depends on."""
    device: str = "auto"
    """`auto` (the best there is), `cpu`, `cuda[:n]` or `mps`."""
    bf16: bool | None = None
    """bf16 autocast, quantizer in fp32; None: on a GPU, and not on a CPU, where it is faster with
    instructions for it (AVX512-BF16, AMX) and slower without."""
    publish_dtype: PublishDtype = PublishDtype.float32
    trackers: list[Tracker] = field(default_factory=lambda: [Tracker.tensorboard])
    """Where to watch the run, besides its own files."""
    log_every: Annotated[int, Range(1)] = 50
    """Steps between two rows of `metrics.jsonl`."""
    eval_every: Annotated[int, Range(1)] = 5_000
    """Validation and images, besides those at the end of each stage."""
    save_every: Annotated[int, Range(1)] = 5_000
    """Resume files, besides those at the end of each stage and on a stop."""
    save_minutes: Annotated[float, Range(0, above=True)] = 10.0
    """Resume files after so much time without one, too."""

    def __post_init__(self) -> None:
        """Refuse an empty run and a discrete path without a codebook."""
        check_ranges(self)
        if not self.plan():
            left = [stage.value for stage in Stage if stage not in TAKEN_OVER[self.strategy]]
            chosen = [stage.value for stage in self.stages]
            raise UsageError(
                f"stages={chosen} leaves strategy={self.strategy.value} nothing to do; "
                f"choose from {left}"
            )
        for planned in self.plan():
            self.loss_of(planned.settings)  # refuses weights that are all 0
        if self.tokenizer.codebook_size is None:
            raise UsageError("this tokenizer has no codebook; dcht-train needs codebook_size")
        self._check_light()

    def _check_light(self) -> None:
        if self.light is None:
            if self.loss.teacher or self.loss.features:
                raise UsageError(
                    f"loss.teacher={self.loss.teacher:g} and loss.features={self.loss.features:g} "
                    "are a light decoder's; add +experiment=light_decoder, or set both to 0"
                )
            return
        if self.init_from is None:
            raise UsageError(
                "a light decoder is trained for a tokenizer that is there; name it with init_from="
            )
        if [planned.name for planned in self.plan()] != [Stage.alternate_finetune.value] or (
            self.alternate_finetune.train_encoder or self.alternate_finetune.train_codebook
        ):
            raise UsageError(
                "a light decoder trains alone, encoder and codebook frozen: "
                f"stages=[{Stage.alternate_finetune.value}], with train_encoder and "
                "train_codebook false"
            )
        try:
            replace(self.tokenizer, decoder=self.light)
        except ValueError as error:
            raise UsageError(f"light: {error}") from None

    def plan(self) -> list[PlannedStage]:
        """The stages to run, in order."""
        taken_over = TAKEN_OVER[self.strategy]
        planned = []
        for stage in self.stages:
            if stage in taken_over:
                continue
            settings = self.stage(stage)
            shorter = [self.stage(left_out) for left_out, by in taken_over.items() if by is stage]
            if self.strategy is Strategy.alternate_all_trainable and shorter:
                settings = replace(settings, train_encoder=True, train_codebook=True)
            planned.append(PlannedStage(stage.value, settings, [*shorter, settings]))
        return planned

    def loss_of(self, stage: StageConfig) -> LossConfig:
        """The losses of a stage: the run's, with what the stage changes."""
        return stage.loss.applied(self.loss)

    def stage(self, stage: Stage) -> StageConfig:
        """The settings of one stage, whatever the strategy."""
        return getattr(self, stage.value)
