# An offer for which no device can be made is given back, once.
case 051
side guest
version 5.3
G< OFFER_CHANNEL relid=5
A< offered relid=5
A> release relid=5
G> RELID_RELEASED relid=5
= channels 0
G< RESCIND_OFFER relid=5
= refused 1
A> give_up relid=5
A< error op=release kind=UsageError
G< OFFER_CHANNEL relid=5
A< offered relid=5
