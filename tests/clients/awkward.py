"""What clients stumble over: an empty piece, line ends that are none of the protocol's, the protocol's own prefix."""

PIECES = ["Hello", "", " wor\u2028ld\x85", "\x0b ü🎈\n\n", "data: x"]
TEXT = "".join(PIECES)
HI = [{"role": "user", "content": "Hi"}]
