"""How long starting and stopping may take: for the server, and for whatever runs it.

The image, the compose file and the manifests repeat these numbers, and tests hold them to it.
"""

# Accepted work is finished for this long after SIGTERM.
DRAIN_SECONDS = 45
# A server that stops takes no new connections at once. Whoever sends SIGTERM first waits this long,
# until every load balancer has forgotten the address.
FORGET_SECONDS = 10
# From the last answer to the end of the process: engines and connections close.
CLOSE_SECONDS = 15
# The longest that loading and checking the models may take.
START_SECONDS = 600
