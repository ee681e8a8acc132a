"""A vision-language model that answers questions about images, through transformers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from skimage import data

from dcar_eval.vqa.questions import Answer, Question
from dcht.errors import CheckpointError
from dcht.files import file_sha256
from dcht.hub import HUB_ID, locate

SMOKE = "smoke"
"""Label of random weights."""
FILES = ("*.json", "*.safetensors", "*.jinja", "*.txt", "*.model")
KNOWN = (
    Question("Is there a person in the image? Answer yes or no.", "yes"),
    Question("Is there an elephant in the image? Answer yes or no.", "no"),
)
"""What a sound judge says of scikit-image's photograph of an astronaut."""


class Judge(Protocol):
    """What answers questions."""

    label: str
    """Part of the protocol's name: whose numbers these are."""
    sha256: str | None
    dtype: str

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        ...

    def answer(self, image: Image.Image, questions: Sequence[Question]) -> list[Answer]:
        """An answer to each question about an RGB image."""
        ...


class LanguageJudge:
    """A vision-language model: the first token of its answer decides.

    The probability of a right answer is that of the tokens with which one of its spellings begins
    (Kamath et al. 2025, arXiv 2512.16853: "the probability assigned to the correct answer"). A
    token that is nothing but a space begins every answer and counts for none.
    """

    def __init__(self, model: Any, processor: Any, *, label: str, sha256: str | None) -> None:
        self.model, self.processor = model.eval(), processor
        self.label, self.sha256 = label, sha256
        self.dtype = str(model.dtype).removeprefix("torch.")

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device

    def to(self, device: torch.device) -> LanguageJudge:
        """It on a device."""
        self.model.to(device)
        return self

    @torch.inference_mode()
    def answer(self, image: Image.Image, questions: Sequence[Question]) -> list[Answer]:
        """An answer to each question about an RGB image, each asked by itself."""
        return [self._ask(image, question) for question in questions]

    def _ask(self, image: Image.Image, question: Question) -> Answer:
        content = [{"type": "image", "image": image}, {"type": "text", "text": question.text}]
        inputs = self.processor.apply_chat_template(
            [{"role": "user", "content": content}],
            tokenize=True,
            add_generation_prompt=True,
            return_dict=True,
            return_tensors="pt",
        ).to(self.device, self.model.dtype)
        chances = self.model(**inputs).logits[0, -1].float().softmax(-1)
        right = self._first_tokens(question)
        return Answer(
            min(1.0, float(chances[right].double().sum())), int(chances.argmax()) in set(right)
        )

    def _first_tokens(self, question: Question) -> list[int]:
        tokenizer = self.processor.tokenizer
        found = {}
        for spelling in question.spellings():
            ids = tokenizer.encode(spelling, add_special_tokens=False)
            known = ids and ids[0] != tokenizer.unk_token_id
            if known and tokenizer.decode([ids[0]]).strip():
                found[ids[0]] = None
        if not found:
            raise CheckpointError(
                f"judge {self.label} has no token for the answer {question.right!r}"
            )
        return list(found)


def load_judge(name: str) -> LanguageJudge:
    """Load a vision-language model by Hub id or from a folder, in the precision of its files.

    Raises:
        CheckpointError: it is not there, is no such model, or lacks tensors.
    """
    from transformers import AutoModelForImageTextToText, AutoProcessor

    folder = locate(name, files=FILES)
    try:
        kind: Any = AutoModelForImageTextToText  # its type does not know of loading info
        model, report = kind.from_pretrained(
            folder, dtype="auto", use_safetensors=True, output_loading_info=True
        )
        processor = AutoProcessor.from_pretrained(folder)
    except Exception as error:  # transformers raises many kinds; all of them mean: no such model
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"judge {name} cannot be loaded: {reason}") from None
    if missing := sorted(report["missing_keys"]):
        raise CheckpointError(f"judge {name} lacks {len(missing)} tensors, such as {missing[0]}")
    if getattr(processor, "chat_template", None) is None:
        raise CheckpointError(f"judge {name} has no chat template: how it is asked is not known")
    label = name if HUB_ID.fullmatch(name) else Path(name).resolve().name
    return LanguageJudge(model, processor, label=label, sha256=_sha256(folder))


def _sha256(folder: Path) -> str:
    """Of all files that make a judge: weights, tokenizer, template and processor."""
    files = sorted({path for pattern in FILES for path in folder.glob(pattern) if path.is_file()})
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.name} {file_sha256(path)}\n".encode())
    return digest.hexdigest()


def check_judge(judge: Judge) -> dict[str, Any]:
    """Have it judge what is known: there is a person in a photograph of one, and no elephant.

    Returns:
        The probabilities of both right answers.

    Raises:
        CheckpointError: one is below a half, which no sound judge gives; a random one may.
    """
    photograph = Image.fromarray(data.astronaut())
    answers = judge.answer(photograph, KNOWN)
    for question, answer in zip(KNOWN, answers, strict=True):
        if judge.label != SMOKE and answer.probability < 0.5:
            raise CheckpointError(
                f"judge {judge.label} gives {question.right!r} a probability of "
                f"{answer.probability:.3f} ({question.text} Of scikit-image's astronaut): its "
                "weights are damaged, or this device computes wrongly (try --device cpu)"
            )
    return {
        question.text: round(answer.probability, 4)
        for question, answer in zip(KNOWN, answers, strict=True)
    }
