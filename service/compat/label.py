"""The label of the one number, as checkpoints have it in ``id2label``."""

LABEL = "reward"
