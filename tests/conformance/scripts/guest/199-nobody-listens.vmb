# A socket that the host offers and nobody here wants is not opened, and released when it is rescinded.
case 199
side guest
version 5.3
G< OFFER_CHANNEL relid=5 interface=9 instance=1 flags=0x2011 user=0000000001
A< offered relid=5
G> silence
G< RESCIND_OFFER relid=5
A< gone relid=5
A> release relid=5
G> RELID_RELEASED relid=5
