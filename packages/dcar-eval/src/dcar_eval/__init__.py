"""Numbers that others can reproduce, for tokenizers and text-to-image models.

Its modules are its interface: `fid`, `geneval`, `reconstruction`, `scenes`.
"""

__version__ = "0.2.0"
