# An offer of an interface that is not allowed is dropped, and so is its rescind; sockets are not meant.
case 052
side guest
version 5.3
option interfaces=3,4
G< OFFER_CHANNEL relid=1 interface=3
A< offered relid=1
G< OFFER_CHANNEL relid=2 interface=5
= refused 1
G< RESCIND_OFFER relid=2
G> silence
= refused 2
G< OFFER_CHANNEL relid=3 interface=9 flags=0x2011
A< offered relid=3
= channels 2
