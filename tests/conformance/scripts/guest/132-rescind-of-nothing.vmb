# A rescind of a relid that the guest does not have, or has seen rescinded, does nothing.
case 132 133
side guest
version 5.3
offer relid=5
G< RESCIND_OFFER relid=6
= refused 1
G< RESCIND_OFFER relid=5
G< RESCIND_OFFER relid=5
= refused 2
A> release relid=5
G> RELID_RELEASED relid=5
G< RESCIND_OFFER relid=5
= refused 3
