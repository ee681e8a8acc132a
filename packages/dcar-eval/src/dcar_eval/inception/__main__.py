"""`python -m dcar_eval.inception --out DIR`."""

from dcar_eval.commands.inception import main
from dcht.commands.common import run

run(main)
