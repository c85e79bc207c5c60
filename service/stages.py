"""What a request goes through, in order: the closed set of the label ``stage``."""

STAGES = ("decode", "tokenize", "cache_get", "admit", "queue", "compute", "cache_set", "encode")
