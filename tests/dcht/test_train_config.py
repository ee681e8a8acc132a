from dataclasses import replace

import pytest

from dcht import PRESETS, UsageError
from dcht.train_config import DataConfig, Stage, StageConfig, TrainConfig


def config(**settings) -> TrainConfig:
    data = DataConfig(root="images")
    return TrainConfig(**{"out": "run", "tokenizer": PRESETS["tiny"], "data": data, **settings})


def test_defaults_are_table_7():
    run = config()
    assert run.stages == [*Stage]
    assert [run.stage(stage).epochs for stage in run.stages] == [10, 40, 10]
    assert [run.stage(stage).discrete_prob for stage in run.stages] == [0, 1, 0.5]
    assert (run.loss.l2, run.loss.l1, run.loss.lpips, run.loss.gan) == (1, 0, 1, 0.5)
    assert (run.optimizer.lr, run.optimizer.betas, run.batch_size) == (1e-4, [0.9, 0.95], 128)
    only_decoder = run.alternate_finetune
    assert not only_decoder.train_encoder
    assert not only_decoder.train_codebook


def test_length_of_a_stage():
    stage = StageConfig(discrete_prob=0, train_encoder=True, train_codebook=False, epochs=10)
    assert stage.num_steps(1_281_167, 128) == 100_091  # the paper's "about 100 k"
    assert replace(stage, steps=7).num_steps(1_281_167, 128) == 7


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: config(stages=[]), "stages is empty"),
        (lambda: config(tokenizer=PRESETS["dc_ae_mix"]), "no codebook"),
        (lambda: DataConfig(root="a", crop=100), r"data\.crop is 100"),
        (lambda: DataConfig(root="a", size=128, crop=160), r"up to data\.size=128"),
        (lambda: DataConfig(root="a", num_val=0), r"data\.num_val is 0"),
        (lambda: replace(config().alternate_finetune, discrete_prob=1.5), "discrete_prob is 1.5"),
        (lambda: replace(config().alternate_finetune, epochs=None), "epochs or steps"),
        (lambda: replace(config().continuous_warmup, train_codebook=True), "discrete_prob > 0"),
    ],
)
def test_impossible_settings_say_what_is_wrong(build, message):
    with pytest.raises(UsageError, match=message):
        build()
