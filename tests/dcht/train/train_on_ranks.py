"""Train a tiny tokenizer as one rank of a launcher's, or alone; run by `test_train_ranks.py`.

    train_on_ranks.py PICTURES OUT

Writes `OUT/of-SIZE-rank-RANK.safetensors`: what each rank holds after ten steps of discrete
learning, all of the training's machinery at work. Then a whole short run in `OUT/of-SIZE`.
"""

import sys
from dataclasses import replace
from pathlib import Path

from safetensors.torch import save_file

import dcht.train
from dcht import PRESETS
from dcht.engine.distributed import world
from dcht.train import run_stages
from dcht.train.dataset import load_batches, to_images
from dcht.train.trainer import Trainer
from dcht.train_config import (
    CodebookConfig,
    DataConfig,
    LossConfig,
    OptimizerConfig,
    Stage,
    TrainConfig,
)

STEPS = 10


def config(images: Path, out: Path) -> TrainConfig:
    run = TrainConfig(
        out=str(out),
        tokenizer=replace(PRESETS["tiny"], codebook_size=16),
        data=DataConfig(root=str(images), size=64, crop=64, num_val=1, cache=True, workers=1),
        loss=LossConfig(lpips=0.0, gan_start=4, discriminator_channels=4),
        optimizer=OptimizerConfig(lr=1e-4, ema_decay=0.9),
        codebook=CodebookConfig(kmeans_start=True, revive_every=3, window=32),
        device="cpu",
        batch_size=4,
        log_every=1,
        trackers=[],
    )
    for stage in Stage:
        setattr(run, stage.value, replace(run.stage(stage), steps=2))
    return run


def main(images: Path, out: Path) -> None:
    # Drawing the curves takes longer than the run.
    dcht.train.plot_run = lambda *_: None  # type: ignore[attr-defined]
    with world("cpu") as ranks:
        learning = replace(config(images, out), stages=[Stage.discrete_learning])
        learning.discrete_learning.steps = STEPS
        learning.loss.gan_start = STEPS - 4
        trainer = Trainer(learning, ranks)
        trainer.begin_stage()
        batches = load_batches(
            trainer.crops,
            batch_size=learning.batch_size,
            seed=learning.seed,
            first_step=0,
            num_steps=STEPS,
            rank=ranks.rank,
            num_ranks=ranks.size,
        )
        for batch in batches:
            assert len(batch) == learning.batch_size // ranks.size
            trainer.train_step(to_images(batch, ranks.device))
        held = dict(trainer.tokenizer.state_dict()) | {"window": trainer.window.indices}
        held |= {f"discriminator.{k}": v for k, v in trainer.discriminator.state_dict().items()}
        held |= {f"ema.{key}": value for key, value in trainer.ema.shadow.items()}
        held = {key: value.contiguous() for key, value in held.items()}
        save_file(held, out / f"of-{ranks.size}-rank-{ranks.rank}.safetensors")
        assert run_stages(config(images, out / f"of-{ranks.size}"), ranks)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
