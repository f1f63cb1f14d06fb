"""What answers of several clients have in common: generations, streams, logprobs, errors."""
