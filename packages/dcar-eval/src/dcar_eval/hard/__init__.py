"""The harder grammar of scenes: groups, sizes, two relations, free places, any shade.

`grammar` says what may be asked for and draws lots, `held_out` what training never sees, `captions`
says a scene in words, `places` puts it where there is room, `examples` makes a picture of it with
its truth; `prompts` are the benchmark's, `judge` decides. Art, colours and words are those of
`dcar_eval.scenes`.
"""
