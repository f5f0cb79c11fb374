# One rescind; the relid stays taken until the guest has released it, then the lowest free is given again.
case 123 124 131
version 5.3
offer instance=1
H> revoke relid=1
G< RESCIND_OFFER relid=1 @size=12
H< revoked
H> revoke id=1
= refused 1
G< silence
H> offer id=2 instance=2
G< OFFER_CHANNEL relid=2 instance=2
G> RELID_RELEASED relid=1
G< silence
H> offer id=3 instance=3
G< OFFER_CHANNEL relid=1 instance=3
