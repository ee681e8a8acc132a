"""`python -m dcar`: the command `dcar`."""

from dcar.cli import main

if __name__ == "__main__":
    main()
