import numpy as np
import pytest
import torch

from dcar.randomness import keyed_generator, keyed_seed, per_image


def test_every_part_of_a_key_counts() -> None:
    seeds = {keyed_seed(*key) for key in [(0, 0), (0, 1), (1, 0), (0, 1, 1), (0, 1, 2)]}
    assert len(seeds) == 5
    assert keyed_seed(3, 4) == keyed_seed(3, 4)


def test_large_parts_of_a_key_count_too() -> None:
    """numpy takes a number as words of 32 bits and puts those of all numbers in a row."""
    keys = [
        (7, 1),
        (7 + 2**32, 0),
        (7, 0, 1),
        (7, 2**32),
        (7 + 2**64, 0),
        (7, 0),
        (2**32, 0),
        (0, 1),
    ]
    assert len({keyed_seed(*key) for key in keys}) == len(keys)
    # What is small draws what it drew in every release.
    assert (
        keyed_seed(7, 1) == int(np.random.SeedSequence((7, 1)).generate_state(1, np.uint64)[0]) >> 1
    )


def test_one_generator_serves_images_in_their_order() -> None:
    few = per_image(torch.Generator().manual_seed(0), 2)
    many = per_image(torch.Generator().manual_seed(0), 5)
    for a, b in zip(few, many, strict=False):
        assert torch.equal(torch.rand(3, generator=a), torch.rand(3, generator=b))


def test_a_sequence_has_one_an_image() -> None:
    with pytest.raises(ValueError, match="2 random generators for 3 images"):
        per_image([keyed_generator(0, 0), keyed_generator(0, 1)], 3)
