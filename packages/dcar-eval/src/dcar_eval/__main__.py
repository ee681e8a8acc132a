"""`python -m dcar_eval`: the command `dcar-eval`."""

from dcar_eval.cli import main

if __name__ == "__main__":
    main()
