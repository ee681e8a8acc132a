"""Our text encoder against the published release's use of T5, on the recorded case."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import T5EncoderModel

from dcar.modules.text import TextEncoder

SHARED = Path(__file__).parents[2] / "shared" / "fixtures" / "release"
CASES = Path(os.environ.get("RELEASE_FIXTURES", SHARED)) / "text"
FOUND = sorted(path.stem for path in CASES.glob("case*.safetensors"))
pytestmark = pytest.mark.skipif(not FOUND, reason=f"no cases at {CASES}")


@pytest.mark.parametrize("name", FOUND)
@pytest.mark.parametrize(
    ("sees_mask", "expected"),
    [(False, "last_hidden_state"), (True, "last_hidden_state_if_mask_were_passed")],
)
def test_hidden_states_with_and_without_the_mask(name: str, sees_mask: bool, expected: str) -> None:
    tensors = load_file(CASES / f"{name}.safetensors")
    ids, mask = tensors["input_ids"], tensors["attention_mask"].bool()
    assert torch.equal(mask, ids != 0)
    stack = T5EncoderModel.from_pretrained(CASES / "t5_tiny").encoder
    encoder = TextEncoder(
        stack,
        None,  # type: ignore[arg-type]  # the release's tokenizer is not in the fixtures
        length=ids.shape[1],
        sees_mask=sees_mask,
        trained=False,
    )
    # Where the mask is passed, what T5 makes of padding is of no consequence.
    kept = mask if sees_mask else torch.ones_like(mask)
    torch.testing.assert_close(encoder(ids, mask)[kept], tensors[expected][kept], atol=5e-5, rtol=0)
