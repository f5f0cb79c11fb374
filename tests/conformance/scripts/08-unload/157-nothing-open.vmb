# With every channel closed the answer comes at once.
case 157
version 5.3
offer
G> UNLOAD
G< UNLOAD_COMPLETE @size=8
= disconnected
