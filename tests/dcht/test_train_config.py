from dataclasses import replace

import pytest

from dcht import PRESETS, UsageError
from dcht.train_config import DataConfig, Stage, StageConfig, Strategy, TrainConfig


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


def test_the_strategies_of_table_5_spend_the_same_budget():
    stages = {"continuous_warmup": 330, "discrete_learning": 1340, "alternate_finetune": 330}
    lengths = {}
    for strategy in Strategy:
        run = config(strategy=strategy)
        for name, steps in stages.items():
            setattr(run, name, replace(getattr(run, name), steps=steps))
        lengths[strategy.value] = {stage.name: stage.num_steps(9, 3) for stage in run.plan()}
    assert lengths == {
        "three_stage": stages,
        "no_warmup": {"discrete_learning": 1670, "alternate_finetune": 330},
        "alternate_all_trainable": {"continuous_warmup": 330, "alternate_finetune": 1670},
    }


def test_what_the_strategies_of_table_5_train():
    def planned(strategy: Strategy) -> list[tuple[str, float, bool, bool]]:
        return [
            (stage.name, settings.discrete_prob, settings.train_encoder, settings.train_codebook)
            for stage in config(strategy=strategy).plan()
            for settings in [stage.settings]
        ]

    warmup = ("continuous_warmup", 0, True, False)
    discrete = ("discrete_learning", 1, True, True)
    decoder_only = ("alternate_finetune", 0.5, False, False)
    everything = ("alternate_finetune", 0.5, True, True)
    assert planned(Strategy.three_stage) == [warmup, discrete, decoder_only]
    assert planned(Strategy.no_warmup) == [discrete, decoder_only]
    assert planned(Strategy.alternate_all_trainable) == [warmup, everything]


def test_a_stage_alone_is_as_long_as_in_the_whole_run():
    alone = config(strategy=Strategy.no_warmup, stages=[Stage.discrete_learning])
    (stage,) = alone.plan()
    assert stage.num_steps(1280, 128) == 500  # 10 + 40 epochs of ten steps


def test_length_of_a_stage():
    stage = StageConfig(discrete_prob=0, train_encoder=True, train_codebook=False, epochs=10)
    assert stage.num_steps(1_281_167, 128) == 100_091  # the paper's "about 100 k"
    assert replace(stage, steps=7).num_steps(1_281_167, 128) == 7


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: config(stages=[]), r"stages=\[\] leaves strategy=three_stage nothing to do"),
        (
            lambda: config(strategy=Strategy.no_warmup, stages=[Stage.continuous_warmup]),
            r"choose from \['discrete_learning', 'alternate_finetune'\]",
        ),
        (lambda: config(tokenizer=PRESETS["dc_ae_mix"]), "no codebook"),
        (lambda: config(save_minutes=0.0), r"save_minutes is 0\.0; expected above 0"),
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
