"""What it costs to examine a corpus or a model of any size, and how much of it is enough. Measures nothing.

`measured.json` holds what was measured, each figure with where it is from, and `coefficients` reads it; `inputs` is
what a person says: size, wanted interval, prices. `sampling` tells how many words or prompts a wanted interval needs,
`costs` what each kind of work takes, and `planned` puts the two together. `showing` writes it for people. `estimating`
beside this folder asks another question: what a run with a known specification takes on this machine.
"""
