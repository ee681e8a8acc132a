"""`python -m dcht`: the command `dcht`."""

from dcht.cli import main

if __name__ == "__main__":
    main()
