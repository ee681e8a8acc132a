"""`dcar-train` as it is typed: experiments from twelve photographs, words without sense."""

import json
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import pytest

from dcar.cli import train_main
from dcar.config import Rounding
from dcar.pipeline import TextToImage
from dcht import Tokenizer
from dcht.latents.encode import encode_images
from dcht.latents.encode_job import EncodeSettings
from dcht.tokenizer import BUNDLED

EXPERIMENTS = sorted(
    Path(entry.name).stem for entry in (resources.files("dcar") / "conf" / "experiment").iterdir()
)
Typed = Callable[..., tuple[int, str]]


@pytest.fixture
def typed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Typed:
    """`dcar-train` with words, in this process: (exit code, stderr)."""
    monkeypatch.setattr("dcar.train.plot_run", lambda out: None)
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["dcar-train", *words])
        monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
        with pytest.raises(SystemExit) as stop:
            train_main()
        return int(stop.value.code or 0), capsys.readouterr().err

    return call


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_starts_from_twelve_photographs(
    name: str, typed: Typed, store: Path, saved_tokenizer: Path
) -> None:
    """As it is written, but for the size of the model and of a batch, and the compiler."""
    words = [f"+experiment={name}", f"data.root={store}", f"tokenizer_ckpt={saved_tokenizer}"]
    words += ["out=run", "device=cpu", "steps=1", "batch_size=4", "accumulate=1", "compile=false"]
    words += ["init_from=scratch", "model=tiny", "prompts=[]", "trackers=[]", "reconstructions=0"]
    if name == "discrete_only256":
        words += ["model.discrete_only=true"]
    code, said = typed(*words)
    assert code == 0, said
    assert "12 images of 64 x 64" in said
    assert (Path("run") / "checkpoint" / "model.safetensors").is_file()


def test_tiny_follows_the_bundled_tokenizer_of_a_store(typed: Typed, captioned: Path) -> None:
    """`dcht encode images --out latents`, then what the experiment says."""
    settings = EncodeSettings(size=(64, 64), batch_size=4)
    encode_images(Tokenizer.from_pretrained(), captioned, Path("latents"), settings)
    code, said = typed("+experiment=tiny", "data.root=latents", "out=run", "trackers=[]")
    assert code == 0, said
    # A preset that is asked for is held to.
    code, said = typed("+experiment=tiny", "data.root=latents", "out=other", "tokenizer=tiny")
    assert code == 2 and said.endswith("choose tokenizer=small_deep\n"), said
    assert BUNDLED.is_dir() and not Path("other").exists()


def test_a_fine_tune_takes_the_layout_of_its_start(
    typed: Typed, store: Path, checkpoint: Path
) -> None:
    """The experiment's presets are the bundled ones; the checkpoint has others, other sampling, and
    its tokenizer is not the bundled one. Single settings that are given stay."""
    words = ["+experiment=finetune", f"init_from={checkpoint}", f"data.root={store}", "steps=1"]
    words += ["batch_size=4", "trackers=[]", "reconstructions=0", "prompts=[]"]
    code, said = typed(
        *words, "out=run", "model.generator.cond_dropout=0.5", "sampling.num_steps=3"
    )
    assert code == 0, said
    settings = json.loads((Path("run") / "config.json").read_text())
    generator = settings["model"]["generator"]
    assert (generator["cond_dropout"], generator["codebook_size"]) == (0.5, 64)
    drawn_with = json.loads((checkpoint / "config.json").read_text())["sampling"]
    assert settings["sampling"] == drawn_with | {"num_steps": 3} != drawn_with
    assert settings["rounding"] == "nearest"


def test_a_fine_tune_rounds_as_its_start(
    typed: Typed, store: Path, checkpoint: Path, tmp_path: Path
) -> None:
    """As the published release's weights do, once converted."""
    pipe = TextToImage.from_pretrained(checkpoint)
    pipe.rounding = Rounding.down
    pipe.save_pretrained(tmp_path / "start")
    words = ["+experiment=finetune", f"init_from={tmp_path / 'start'}", f"data.root={store}"]
    words += ["steps=1", "batch_size=4", "trackers=[]", "reconstructions=0", "prompts=[]"]
    code, said = typed(*words, "out=run")
    assert code == 0, said
    assert json.loads((Path("run") / "checkpoint" / "config.json").read_text())["rounding"] == (
        "down"
    )


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("loss.difusion=2", "no setting is called loss.difusion; the nearest is loss.diffusion"),
        ("+loss.difusion=2", "the nearest is loss.diffusion"),
        ("++model.generator.depht=9", "the nearest is model.generator.depth"),
        ("+optimizer.learning_rate=1", "the nearest is optimizer.lr"),
        ("+zz=1", "no setting is called zz"),
        ("data.mixture=[{kind: folder, root: x, wieght: 1}]", "wieght; the nearest is weight"),
        ("optimizer.ema_decay=1", "ema_decay is 1.0"),
        ("steps=0", "steps is 0; expected 1 to"),
        ("accumulate=0", "accumulate is 0"),
        ("keep_saves=0", "keep_saves is 0"),
        ("log_every=0", "log_every is 0"),
        ("optimizer.lr=nan", "lr is nan"),
        ("optimizer.clip=0", "clip is 0"),
        ("data.weight=nan", "weight is nan"),
        ("loss.diffusion=-1", "diffusion is -1.0"),
        ("text_cache=", "text_cache is ''"),
        ("tokenizer_ckpt=", "tokenizer_ckpt is ''"),
        ("init_from=${nosuch}", "init_from: Interpolation key 'nosuch' not found"),
        ("model=huge", "model/huge is not there; choose from"),
    ],
)
def test_a_word_without_sense_is_one_line_and_2(typed: Typed, word: str, message: str) -> None:
    code, said = typed("+experiment=tiny", "data.root=latents", "out=run", word)
    assert code == 2 and message in said
    assert said.startswith("error: ") and said.count("\n") == 1, said
    assert not Path("run").exists()


@pytest.mark.parametrize("word", ["loss.diffusion=0", "model.discrete_only=true"])
def test_a_run_that_would_learn_nothing_is_refused(typed: Typed, word: str) -> None:
    nothing = ("loss.cross_entropy=0", word)
    code, said = typed("+experiment=tiny", "data.root=latents", "out=run", *nothing)
    assert code == 2 and "loss.cross_entropy" in said and said.count("\n") == 1


@pytest.mark.parametrize("word", ["tokenizer_ckpt=/nowhere", "init_from=/nowhere"])
def test_a_checkpoint_that_is_not_there_is_4(typed: Typed, word: str) -> None:
    code, said = typed("+experiment=tiny", "data.root=latents", "out=run", word)
    assert code == 4 and "/nowhere" in said and said.count("\n") == 1
