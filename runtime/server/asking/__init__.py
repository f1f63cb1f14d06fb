"""What requests of several clients have in common: JSON to typed fields, sampling, prompts, conversations."""
