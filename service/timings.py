"""How long starting and stopping may take: for the server, and for whatever runs it.

The image, the compose file and the manifests repeat these numbers, and tests hold them to it.
"""

# After SIGTERM /readyz says no, and the port stays open for this long, until every load balancer
# has forgotten the address.
FORGET_SECONDS = 10
# Then accepted work is finished, for this long.
DRAIN_SECONDS = 45
# From the last answer to the end of the process: engines and connections close.
CLOSE_SECONDS = 15
# From SIGTERM to the end.
STOP_SECONDS = FORGET_SECONDS + DRAIN_SECONDS + CLOSE_SECONDS
# The longest that loading and checking the models may take.
START_SECONDS = 600
