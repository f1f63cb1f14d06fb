"""Where models come from; the only code of the bundler that uses the network."""
