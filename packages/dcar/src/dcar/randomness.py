"""Random numbers that depend on a key alone: a training sample or an image, never a batch.

So a sample's mask and an image's noise are the same whatever the batch size, the number of ranks,
or the step at which a run was resumed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

Generators = torch.Generator | Sequence[torch.Generator]
"""One CPU generator an image, or one from which they are made in the order of the images."""


def keyed_seed(*key: int) -> int:
    """A 63-bit seed that depends on every part of the key (non-negative integers)."""
    if any(part >> 32 for part in key):
        # numpy strings words of 32 bits together: (2^32, 0) would be (0, 1). The first word is one
        # that no step or image number reaches.
        key = (2**32 - 1, *(word for part in key for word in _counted_words(part)))
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _counted_words(part: int) -> list[int]:
    """How many words of 32 bits a number has, and these."""
    count = max(1, -(-part.bit_length() // 32))
    return [count, *(part >> 32 * k & (2**32 - 1) for k in range(count))]


def keyed_generator(*key: int) -> torch.Generator:
    """A CPU generator for the key, for instance (seed, image index)."""
    return torch.Generator().manual_seed(keyed_seed(*key))


def per_image(generators: Generators, count: int) -> Sequence[torch.Generator]:
    """One generator for each of `count` images.

    Raises:
        ValueError: a sequence of another length.
    """
    if isinstance(generators, torch.Generator):
        seeds = torch.randint(2**63 - 1, (count,), generator=generators).tolist()
        return [torch.Generator().manual_seed(seed) for seed in seeds]
    if len(generators) != count:
        raise ValueError(f"{len(generators)} random generators for {count} images")
    return generators
