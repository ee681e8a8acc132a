"""A small random judge of a real class: everything can be tried but the numbers."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from dcar_eval.vqa.judge import SMOKE, LanguageJudge
from dcar_eval.vqa.questions import NUMBERS

IMAGE, SIDE, PATCH = "<image>", 28, 14
TEMPLATE = (
    "{% for message in messages %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image> {% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %} <answer>{% endif %}"
)


def random_judge() -> LanguageJudge:
    """A LLaVA of a few thousand random weights, whose words are answers alone."""
    processor = small_processor()
    sizes: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            **sizes, num_hidden_layers=2, image_size=SIDE, patch_size=PATCH
        ),
        text_config=LlamaConfig(
            **sizes, num_hidden_layers=1, num_key_value_heads=2, vocab_size=len(_words())
        ),
        image_token_index=_words().index(IMAGE),
        image_seq_length=(SIDE // PATCH) ** 2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlavaForConditionalGeneration(config)
    return LanguageJudge(model, processor, label=SMOKE, sha256=None)


def small_processor() -> LlavaProcessor:
    """Of the random judge: images of 28 px, and words that are known or not."""
    words = {word: number for number, word in enumerate(_words())}
    tokenizer = Tokenizer(WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.add_special_tokens([IMAGE])  # a word of its own wherever it stands
    return LlavaProcessor(
        image_processor=CLIPImageProcessor(
            size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}
        ),
        tokenizer=PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>"
        ),
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token=IMAGE,
        chat_template=TEMPLATE,
    )


def _words() -> list[str]:
    answers = ["yes", "no", *NUMBERS]
    return ["<pad>", "<unk>", IMAGE, "<answer>", *answers, *map(str.capitalize, answers)]
