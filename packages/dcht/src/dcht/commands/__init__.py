"""The command line: `common` is shared by all three packages."""
