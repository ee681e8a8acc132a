"""The safety check of prompts (appendix A.1): ShieldGemma, asked once a policy.

The prompt and one of Google's four policies are put into the question that ShieldGemma was trained
on; its score is P(Yes) over the logits of `Yes` and `No` for the next token. A prompt that reaches
the threshold on any policy is replaced by `A red heart`. # not in paper: the threshold (0.2 is
Sana's) and the four policies one at a time (those that the model card's numbers belong to).

It fails closed: what cannot be loaded stops, and what cannot be judged counts as a violation.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import torch

from dcar.config import SAFETY_THRESHOLD
from dcar.modules.words import visible
from dcht.errors import CheckpointError, UsageError
from dcht.ranges import Range, check_ranges

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

REPLACEMENT = "A red heart"

POLICIES = {
    "sexually explicit": (
        '"No Sexually Explicit Information": The prompt shall not contain or seek generation of '
        "content that contains references to sexual acts or other lewd content (e.g., sexually "
        "graphic descriptions, content aimed at causing arousal). Medical or scientific terms "
        "related to human anatomy or sex education are permitted."
    ),
    "dangerous": (
        '"No Dangerous Content": The prompt shall not contain or seek generation of content that '
        "harming oneself and/or others (e.g., accessing or building firearms and explosive "
        "devices, promotion of terrorism, instructions for suicide)."
    ),
    "hate": (
        '"No Hate Speech": The prompt shall not contain or seek generation of content that '
        "targeting identity and/or protected attributes (e.g., racial slurs, promotion of "
        "discrimination, calls to violence against protected groups) or "
        "dehumanizing/belittling/vilifying on the bases of race, ethnicity, religion, disability, "
        "age, nationality, veteran status, sexual orientation, gender, gender identity, caste, or "
        "any other protected status. We do allow content that includes a reference to a protected "
        "individual or group in a positive manner."
    ),
    "harassment": (
        '"No Harassment": The prompt shall not contain or seek generation of content that is '
        "malicious, intimidating, bullying, or abusive content targeting another individual "
        "(e.g., physical threats, denial of tragic events, disparaging victims of violence)."
    ),
}
"""The wording of ShieldGemma's model card: the model knows no other."""

QUESTION = """\
You are a policy expert trying to help determine whether a user
prompt is in violation of the defined safety policies.

<start_of_turn>
Human Question: {prompt}
<end_of_turn>

Our safety principle is defined in the below:

* {policy}

Does the human question violate the above principle? Your answer must start
with 'Yes' or 'No'. And then walk through step by step to be sure we answer
correctly.

"""
"""Likewise. The two markers are single tokens of Gemma's."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a checker says of one prompt."""

    checker: str
    """Its name, as it was asked for."""
    threshold: Annotated[float, Range(0, 1, above=True)]
    scores: dict[str, float]
    """P(Yes) of each policy, rounded to 4 places; 1 where it could not be judged."""

    def __post_init__(self) -> None:
        """Refuse what no checker says."""
        check_ranges(self)
        if not self.scores or not all(0 <= score <= 1 for score in self.scores.values()):
            raise UsageError(f"scores are {self.scores}; expected 0 to 1, one a policy")

    @property
    def policy(self) -> str:
        """The policy with the highest score."""
        return max(self.scores, key=lambda policy: self.scores[policy])

    @property
    def rejected(self) -> bool:
        """Whether the highest score reaches the threshold."""
        return self.scores[self.policy] >= self.threshold

    def __str__(self) -> str:
        """The reason in words."""
        score = self.scores[self.policy]
        return f"{self.checker}: {self.policy}, P(Yes) {score:.2f}, threshold {self.threshold:g}"


class Screened(NamedTuple):
    """Prompts, replaced where they were rejected, with what was said of each."""

    prompts: list[str]
    verdicts: list[Verdict | None]
    """None without a checker."""


class SafetyChecker:
    """ShieldGemma with its tokenizer.

    Attributes:
        name: what it was loaded from.
        threshold: a prompt is rejected when P(Yes) reaches it.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str,
        threshold: float = SAFETY_THRESHOLD,
    ) -> None:
        """Take a causal language model.

        Raises:
            UsageError: a threshold outside (0, 1].
            CheckpointError: a tokenizer without the tokens `Yes` and `No`.
        """
        if not 0 < threshold <= 1:
            raise UsageError(f"safety threshold is {threshold}; it must be above 0 and at most 1")
        words = tokenizer.get_vocab()
        if missing := [word for word in ("Yes", "No") if word not in words]:
            raise CheckpointError(
                f"safety checker {name} has no token {missing[0]!r}; it should be a ShieldGemma, "
                "for example google/shieldgemma-2b"
            )
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.name = name
        self.threshold = threshold
        self.answers = [words["Yes"], words["No"]]

    @classmethod
    def from_pretrained(
        cls, name: str | Path, *, threshold: float = SAFETY_THRESHOLD
    ) -> SafetyChecker:
        """Load a folder or a Hub id, for example `google/shieldgemma-2b`, in bfloat16.

        Raises:
            UsageError: a threshold outside (0, 1].
            CheckpointError: it cannot be loaded; nothing is generated without it.
        """
        from transformers import AutoModelForCausalLM, AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(name)
            model = AutoModelForCausalLM.from_pretrained(name, dtype=torch.bfloat16)
        except Exception as error:  # transformers raises many kinds; all of them mean: no checker
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise CheckpointError(f"safety checker {name} cannot be loaded: {reason}") from None
        return cls(model, tokenizer, name=str(name), threshold=threshold)

    def to(self, device: torch.device | str) -> SafetyChecker:
        """Move the model; returns self."""
        self.model.to(device)  # type: ignore[arg-type]
        return self

    def check(self, prompts: Sequence[str]) -> list[Verdict]:
        """Judge prompts, each one once, in one forward pass a policy."""
        known = {prompt: self._judge(prompt) for prompt in dict.fromkeys(prompts)}
        return [known[prompt] for prompt in prompts]

    def _judge(self, prompt: str) -> Verdict:
        scores = {name: self._score(prompt, policy) for name, policy in POLICIES.items()}
        return Verdict(checker=self.name, threshold=self.threshold, scores=scores)

    @torch.inference_mode()
    def _score(self, prompt: str, policy: str) -> float:
        # As the generator reads it: what nobody sees, and letters of another width, hide no word.
        prompt = unicodedata.normalize("NFKC", visible(prompt))
        # A prompt must not be able to end its own turn and go on as ours.
        prompt = prompt.replace("_of_turn>", " of turn>").strip()
        question = QUESTION.format(prompt=prompt, policy=policy)
        ids = self.tokenizer(question, return_tensors="pt")["input_ids"].to(self.model.device)
        if ids.shape[1] > self.model.config.max_position_embeddings:
            return 1.0  # too long to be judged
        logits = self.model(ids, logits_to_keep=1).logits[0, -1, self.answers]
        score = logits.float().softmax(dim=0)[0].item()
        return 1.0 if math.isnan(score) else round(score, 4)


def screen(checker: SafetyChecker | None, prompts: Sequence[str]) -> Screened:
    """Replace the prompts that a checker rejects by `A red heart`; without one, none."""
    if checker is None:
        return Screened(list(prompts), [None] * len(prompts))
    verdicts = checker.check(prompts)
    pairs = zip(prompts, verdicts, strict=True)
    safe = [REPLACEMENT if verdict.rejected else prompt for prompt, verdict in pairs]
    return Screened(safe, list(verdicts))
