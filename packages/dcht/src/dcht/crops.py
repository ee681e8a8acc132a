"""What a tokenizer is trained on: `dcht.train.dataset`."""

from dcht.train.dataset import (
    Crops as Crops,
)
from dcht.train.dataset import (
    load_batches as load_batches,
)
from dcht.train.dataset import (
    split_inputs as split_inputs,
)
from dcht.train.dataset import (
    to_images as to_images,
)
