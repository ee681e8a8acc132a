"""The verbs of `dcar-eval`, one a module: each parses, calls one function and reports."""
