# Offer and rescind back to back end with no channel and one release.
case 134
side guest
version 5.3
G< OFFER_CHANNEL relid=9
A< offered relid=9
G< RESCIND_OFFER relid=9
A< gone relid=9
A> release relid=9
G> RELID_RELEASED relid=9
A> release relid=9
A< error op=release kind=UsageError
G> silence
= channels 0
