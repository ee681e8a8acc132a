"""The published release as one of our checkpoints: the work of `dcar convert --from release`.

Its generator (`mit-han-lab/dc-ar-512`) and image tokenizer (`mit-han-lab/dc-ht`) are read, never
redistributed: they are for non-commercial use, and so is what is made of them.
`dcar.weights.release` knows the names, `dcht.convert.sources` reads the files and
`dcht.convert.published` makes the tokenizer.
"""

from __future__ import annotations

from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from dcar.config import PRESETS, CheckpointConfig, Rounding
from dcar.model import DCAR
from dcar.sampling_config import SamplingConfig
from dcar.weights.pretrained import refer_to_tokenizer, save_pretrained
from dcar.weights.release import convert_config, convert_sampling, convert_side, convert_tensors
from dcht.checkpoint import (
    WEIGHTS,
    as_published,
    build_on_meta,
    checkpoint_sha256,
    load_strict,
)
from dcht.convert.published import RECORD, convert
from dcht.convert.sources import PublishedFiles, read_source, source_sha256
from dcht.errors import CheckpointError
from dcht.files import begin, read_json, require_unused, write_atomic

PLACES = (
    ("dc-ar-512", "dc-ht"),
    ("generator/dc_ar_512", "tokenizer/dc_ht"),
    ("generator", "tokenizer"),
)
"""Generator and tokenizer below one folder; the first two are those of the release's scripts."""
PUBLISHED_SIDE = 512
TOKENIZER_FOLDER = "tokenizer"
LICENSE = resources.files("dcar") / "licenses" / "dc-ar-weights.txt"
LIMIT = (
    "these weights, and whatever is made of them, are for non-commercial use only: research or "
    "evaluation (NVIDIA License, section 3.3)"
)
CARD = """# DC-AR, converted from the published release

Made by `dcar convert --from release`: the release's numbers in our layout. Generator `{generator}`,
image tokenizer `{tokenizer}` (in `{folder}/`); the text encoder `{text}` is not part of it.

- **Sampling** as the release's scripts do, which is not as the paper says: temperature
  {sampling.temperature:g} with annealed logits, {sampling.num_steps} steps, guidance
  {sampling.cfg_scale:g}, {sampling.num_diffusion_steps} diffusion steps, pixels cut off to 8 bits.
  `--preset paper` has the paper's.
- **No safety check** unless one is asked for: `dcar generate --safety google/shieldgemma-2b`.
- **Limit**: {limit}.

## License of the weights

```
{license}
```
"""


class CheckpointParts(NamedTuple):
    """A generator, how it is sampled, and the pixels a side that it was trained on."""

    model: DCAR
    sampling: SamplingConfig
    side: int


def find_release(source: str, tokenizer: str | None) -> tuple[str, str]:
    """Where generator and tokenizer are: both named, or in one folder as the release has them.

    Raises:
        CheckpointError: the folder does not hold both.
    """
    if tokenizer is not None:
        return source, tokenizer
    for parts in PLACES:
        folders = [Path(source) / part for part in parts]
        if all(folder.is_dir() for folder in folders):
            return str(folders[0]), str(folders[1])
    raise CheckpointError(
        f"{source} does not hold {PLACES[0][0]}/ and {PLACES[0][1]}/; name the image tokenizer "
        "(a folder or a Hub id) with --tokenizer"
    )


def convert_generator(source: PublishedFiles, *, text: str | None = None) -> CheckpointParts:
    """The generator of the release.

    Without settings beside its tensors it is `dc_ar_512`, all that was published.

    Args:
        source: what `dcht.convert.sources.read_source` gave.
        text: a T5 (folder or Hub id) in place of the one that the release names.

    Raises:
        CheckpointError: keys or shapes that do not fit, by name.
    """
    settings = source.settings.get("model")
    with as_published("the release's config"):
        config = PRESETS["dc_ar_512"] if settings is None else convert_config(settings)
        side = PUBLISHED_SIDE if settings is None else convert_side(settings)
        sampling = convert_sampling(settings)
    if text is not None:
        config = replace(config, text=replace(config.text, name=text))
    model = build_on_meta(lambda: DCAR(config), "the release's config")
    load_strict(model, convert_tensors(source.tensors), "the release's generator")
    return CheckpointParts(model.eval(), sampling, side)


def write_release(
    source: str,
    out: Path,
    *,
    tokenizer: str | None = None,
    text: str | None = None,
    force: bool = False,
) -> str:
    """Convert both parts into one checkpoint folder and return its hash.

    Finished work of the same settings is left alone.

    Args:
        source: folder of the release, or its generator alone (weights file, folder or Hub id).
        out: folder to write; the image tokenizer goes below it.
        tokenizer: the image tokenizer, where `source` is the generator alone.
        text: as for `convert_generator`.
        force: write over what `out` holds.

    Raises:
        UsageError: `out` holds something else and `force` is off.
        CheckpointError: something is missing, cannot be read or does not fit.
    """
    generator_name, tokenizer_name = find_release(source, tokenizer)
    request = {
        "source": source,
        "tokenizer": tokenizer,
        "text": text,
        "sha256": [source_sha256(name) for name in (generator_name, tokenizer_name)],
    }
    record = out / RECORD
    begun = record.exists() and read_json(record) == {"request": request}
    if begun and (out / WEIGHTS).exists() and not force:
        return checkpoint_sha256(out)
    require_unused(out, force=force or begun)
    parts = convert_generator(read_source(generator_name), text=text)
    image_tokenizer, _ = convert(read_source(tokenizer_name), variant=None)
    channels, codes = parts.model.config.head.latent_channels, parts.model.generator.mask_id
    theirs = (image_tokenizer.config.latent_channels, image_tokenizer.config.codebook_size)
    if (channels, codes) != theirs:
        raise CheckpointError(
            f"{tokenizer_name} has {theirs[0]} channels and {theirs[1]} codes; {generator_name} "
            f"was trained on {channels} and {codes}"
        )

    begin(out, RECORD, {"request": request}, files=[WEIGHTS], force=force)
    image_tokenizer.save_pretrained(out / TOKENIZER_FOLDER)
    model = parts.model.config
    card = CARD.format(
        generator=generator_name,
        tokenizer=tokenizer_name,
        folder=TOKENIZER_FOLDER,
        text=model.text.name,
        sampling=parts.sampling,
        limit=LIMIT,
        license=LICENSE.read_text(encoding="utf-8"),
    )
    write_atomic(out / "README.md", card.encode())
    config = CheckpointConfig(
        model=model,
        tokenizer=refer_to_tokenizer(image_tokenizer, str(out / TOKENIZER_FOLDER), out),
        sampling=parts.sampling,
        height=parts.side,
        width=parts.side,
        rounding=Rounding.down,
    )
    return save_pretrained(out, parts.model, None, config)
