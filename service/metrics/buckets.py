"""Edges of histograms."""

# Every threshold of an objective on time must be an edge: 0.25 s and 1 s are.
SECONDS = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60,
)  # fmt: skip
POWERS = tuple(float(2**i) for i in range(18))
RATIO = tuple(i / 20 for i in range(1, 21))
STD = tuple(i / 10 for i in range(1, 31))
