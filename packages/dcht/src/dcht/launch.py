"""The entry point `dcht-train`: Hydra composes the settings, `dcht.train` gets a plain dataclass.

`--help` is answered without Hydra, which takes seconds to describe itself; torch is imported when a
run starts.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from importlib.metadata import version
from importlib.util import find_spec
from tempfile import TemporaryDirectory
from typing import Any, NoReturn, cast

from dcht.commands import train_export
from dcht.commands.common import (
    INTERRUPTED,
    OK,
    USAGE,
    command_parser,
    exit_code,
    let_threads_sleep,
    run_verb,
    wants_traceback,
)
from dcht.commands.terminal import ready_streams
from dcht.config import LIGHT_PRESETS, PRESETS, TokenizerConfig
from dcht.engine.hydra import explain, require_known
from dcht.engine.plan import Cluster, take_plan
from dcht.errors import UsageError

HELP = """\
usage: dcht-train +experiment=NAME [KEY=VALUE ...]
       dcht-train export RUN --out DIR

Train a tokenizer through the three stages of DC-HT; the result is OUT/tokenizer.
The same command continues a run that was stopped. `export` publishes a run's result.

examples:
  dcht-train +experiment=imagenet256 data.root=imagenet/train out=runs/imagenet256
  dcht-train +experiment=tiny data.root=images out=runs/tiny
  dcht-train +experiment=imagenet256 stages=[alternate_finetune] init_from=runs/a/tokenizer \\
      data.root=imagenet/train out=runs/b
  torchrun --nproc-per-node 8 -m dcht.launch +experiment=imagenet256 \\
      data.root=imagenet/train out=runs/imagenet256
  dcht-train -m hydra/launcher=submitit_slurm +experiment=table5 seed=0,1,2 \\
      data.root=scenes 'out=runs/seed-${{seed}}'
  dcht-train export runs/imagenet256 --out published/

experiments (several: [a,b]): {experiments}
tokenizers (tokenizer=NAME): {tokenizers}
light decoders (light=NAME): {lights}

options:
  -h, --help              this text
  plan=true               print what it would take on plan.gpus=8 of plan.gpu=a100, and do not run
  --cfg job --resolve     show every setting with its value, and do not run
  --hydra-help            what else the command line can do
"""


Presets = Callable[[Any], Mapping[str, Any]]
"""From what was composed, the groups (`tokenizer`) that a checkpoint decides where nobody has."""


def launch(
    conf: str,
    *,
    help_text: str,
    register: Callable[[], None],
    task: Callable[[Any], bool],
    plan: Callable[[Any, Cluster], str],
    presets: Presets = lambda config: {},
) -> NoReturn:
    """Compose `train.yaml` of package `conf` with the command line, run `task` on it, exit.

    `experiment=x` may be written without its plus. Settings that do not compose exit 2, as do
    those that are none, and where the extra `train` is not installed; a task that was stopped exits
    130. With `plan=true` what `plan` says of the
    settings is printed in place of it. Of a sweep, the code is that of the
    first job that failed.
    """
    ready_streams()
    let_threads_sleep()
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(help_text, end="")
        sys.exit(0)
    _require_extra(conf.split(".")[0])
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    register()
    sys.argv[1:] = [f"+{word}" if word.startswith("experiment=") else word for word in sys.argv[1:]]
    whole = wants_traceback()
    started = False
    codes: list[int] = []
    cluster: Cluster | None = None

    def composed(config: DictConfig) -> int:
        schema = cast(type, OmegaConf.get_type(config))
        try:
            if missing := sorted(OmegaConf.missing_keys(config)):
                raise UsageError(f"no value for {', '.join(missing)}; give each as NAME=VALUE")
            follow(config, presets(config), list(HydraConfig.get().overrides.task))
            settings = OmegaConf.to_object(config)
        except (OmegaConfBaseException, TypeError) as error:  # a setting that `~` has removed
            raise explain(error, sys.argv[1:], schema) from None
        require_known(settings)
        if cluster is not None:
            print(plan(settings, cluster))
            return OK
        return OK if task(settings) else INTERRUPTED

    @hydra.main(version_base="1.3", config_path=f"pkg://{conf}", config_name="train")
    def main(config: DictConfig) -> None:
        nonlocal started
        started = True
        codes.append(exit_code(composed, config, whole=whole))
        if codes[-1] and HydraConfig.get().mode is RunMode.MULTIRUN:
            # Of a sweep's jobs, which may run elsewhere, Hydra passes on exceptions alone.
            raise RuntimeError(f"exit code {codes[-1]}")

    def compose() -> int:
        nonlocal cluster
        cluster = take_plan(sys.argv)
        # Hydra would print what does not compose, over many lines, and exit 1.
        before = os.environ.get("HYDRA_FULL_ERROR")
        os.environ["HYDRA_FULL_ERROR"] = "1"
        try:
            check_options()
            with sweep_folder():
                main()
        except Exception as error:
            if not started and not whole:
                raise explain(error, sys.argv[1:], _schema(conf)) from None
            failed = [code for code in codes if code]
            if not failed:
                raise
            print(f"error: a job of the sweep ended with {error}", file=sys.stderr)
            return failed[0]
        finally:
            if before is None:
                os.environ.pop("HYDRA_FULL_ERROR", None)
        return codes[-1] if codes else OK

    sys.exit(exit_code(compose, whole=whole))


def _require_extra(package: str) -> None:
    """Exit 2 and name the extra where a package's trainer is not installed."""
    if missing := [name for name in ("hydra", "matplotlib") if find_spec(name) is None]:
        print(
            f"error: {package}-train needs {missing[0]}, which is in an extra: "
            f"pip install '{package}[train]'",
            file=sys.stderr,
        )
        sys.exit(USAGE)


def check_options() -> None:
    """Refuse options that Hydra's parser would answer with its whole usage.

    Raises:
        UsageError: one that is not known, or has a wrong value.
    """
    from hydra._internal.utils import get_args_parser

    def refuse(message: str) -> NoReturn:
        raise UsageError(f"{message}; --help lists the options, settings are NAME=VALUE")

    parser = get_args_parser()
    parser.error = refuse  # type: ignore[method-assign]
    parser.parse_args()


def follow(config: Any, layouts: Mapping[str, Any], words: list[str]) -> None:
    """Take groups that no word of the command line chose from a checkpoint.

    What words say of single settings in them (`model.generator.cond_dropout=0`) stays.

    Args:
        config: the settings, which are changed.
        layouts: the checkpoint's, by group.
        words: Hydra's overrides.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import OmegaConf

    overrides = OverridesParser.create().parse_overrides(words)
    for group, layout in layouts.items():
        if any(override.key_or_group == group for override in overrides):
            continue
        OmegaConf.update(config, group, layout, merge=False)
        for override in overrides:
            if override.key_or_group.startswith(f"{group}."):
                OmegaConf.update(config, override.key_or_group, override.value())


@contextmanager
def sweep_folder() -> Iterator[None]:
    """Where Hydra keeps its note of a sweep, unless a launcher or the user names a place.

    Nobody reads it: each job has its `out`.
    """
    sweeping = {"-m", "--multirun"} & set(sys.argv[1:])
    places = ("hydra/launcher=", "hydra.sweep.dir=")
    if not sweeping or any(word.lstrip("+").startswith(places) for word in sys.argv[1:]):
        yield
        return
    # Beside another setting: Hydra takes options before and after all of them, not between.
    place = next((n for n, word in enumerate(sys.argv) if n and "=" in word), len(sys.argv))
    with TemporaryDirectory() as folder:
        sys.argv.insert(place, f"hydra.sweep.dir='{folder}'")
        yield


def _schema(conf: str) -> type:
    """The dataclass of all settings of a package's `train.yaml`."""
    from hydra import compose, initialize_config_module
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import OmegaConf

    GlobalHydra.instance().clear()
    with initialize_config_module(conf, version_base="1.3"):
        return cast(type, OmegaConf.get_type(compose("train")))


def experiment_names(package: str) -> list[str]:
    """The experiments that a package's `conf` folder holds, found without importing it."""
    folder = resources.files(package) / "conf" / "experiment"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir())


def _export(*words: Any, **settings: Any) -> str:
    from dcht.train.publish import export

    return export(*words, **settings)


def train_main() -> NoReturn:
    """Entry point of `dcht-train`."""
    if sys.argv[1:2] == ["export"]:
        parser = command_parser(
            "dcht-train",
            version=version("dcht"),
            description="Train a tokenizer, or publish what a run has made.",
            examples=train_export.EXAMPLES,
        )
        train_export.add(parser.add_subparsers(required=True, metavar="VERB"), _export)
        run_verb(parser)

    def register() -> None:
        from dcht.conf import register

        register()

    def task(config: Any) -> bool:
        from dcht.train import train

        return train(config)

    def plan(config: Any, cluster: Cluster) -> str:
        from dcht.train.plan import plan

        return plan(config, cluster)

    def presets(config: Any) -> dict[str, Any]:
        from omegaconf import OmegaConf

        from dcht.train.start import layout_of

        if config.init_from is None:
            return {}
        preset = OmegaConf.to_object(config.tokenizer)
        return {"tokenizer": layout_of(config.init_from, cast(TokenizerConfig, preset))}

    names = {
        "experiments": ", ".join(experiment_names("dcht")),
        "tokenizers": ", ".join(PRESETS),
        "lights": ", ".join(LIGHT_PRESETS),
    }
    launch(
        "dcht.conf", help_text=HELP.format(**names), register=register, task=task, plan=plan,
        presets=presets,
    )  # fmt: skip


if __name__ == "__main__":
    train_main()
