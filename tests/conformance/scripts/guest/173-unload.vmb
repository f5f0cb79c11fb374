# An unload ends everything; one that was not asked for is ignored.
case 173
side guest
version 5.3
offer relid=5
open relid=5
G< UNLOAD_COMPLETE
= refused 1
= open 1
A> unload
A< detach relid=5
G> UNLOAD
= unloading
G< OFFER_CHANNEL relid=6
= refused 2
G< UNLOAD_COMPLETE
A< free relid=5
A< done op=unload
= disconnected
= channels 0
