"""Messages to prompt, with the model's own template."""
