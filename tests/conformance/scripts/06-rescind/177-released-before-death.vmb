# The same, and the guest is done first: its relid is given to nobody while the host's process may signal it.
case 177
version 5.3
offer host=1
open relid=1
host 1 gone
G< RESCIND_OFFER relid=1
G> RELID_RELEASED relid=1
= channel 1 revoked_client_release
= relids 1
H> offer instance=7
G< OFFER_CHANNEL relid=2 instance=7
host 1 dead
= relids 1
H> offer instance=8
G< OFFER_CHANNEL relid=1 instance=8
