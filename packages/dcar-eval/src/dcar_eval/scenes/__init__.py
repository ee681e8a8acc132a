"""Scenes: image-caption pairs with exact ground truth in the six tasks of GenEval.

Composed from real artwork that the user gets from npm (Microsoft's Fluent 3D emoji, MIT): nothing
of it is in this package. `world` says what may be asked for, `held_out` what training never sees,
`sample` samples scenes; `captions` says a scene in words, `sprites` reads and recolors the art,
`backgrounds` and `layout` compose an image, `dataset` writes them.
"""
