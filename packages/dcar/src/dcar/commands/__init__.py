"""The verbs of `dcar`, a module each: `add` its options, `run` it. None imports torch on import."""
