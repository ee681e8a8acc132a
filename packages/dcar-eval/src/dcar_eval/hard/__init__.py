"""The harder grammar of scenes: groups, sizes, two relations, free places, any shade.

`grammar` says what may be asked for, `held_out` what training never sees, `sample` makes scenes,
`captions` says one in words, `places` puts it where there is room, `examples` makes an image of it
with its truth; `prompts` are the benchmark's, `judge` decides. Art, colors and words are those
of `dcar_eval.scenes`.
"""
