"""llama.cpp's sources to libraries: patched, compiled for every kind of processor, kept.

What the patches compute is the same to the last bit, with three exceptions: 010-mirostat-one-choice computes what GCC's
library does; attention to a few of many cells is added up as if the others, which belong to another conversation or lie
outside a sliding window, weren't there; and 100-logits-beyond-the-usual chooses otherwise where a logit is infinite,
huge or no number.
"""
