# The client of a guest, and what it does not send.
#= 6:1: expected G> CLOSE_CHANNEL, got nothing
side guest
version 5.3
offer relid=5
G> CLOSE_CHANNEL
