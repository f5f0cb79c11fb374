# A relid, and the event flag with it, is given to nobody while a callback of its last open may still run.
case 142 136
option manual-claims
version 5.3
offer instance=1
open relid=1
revoke relid=1
B< CloseSlot flag=1
G< RESCIND_OFFER relid=1
G> RELID_RELEASED relid=1
H> offer id=2 instance=2
G< OFFER_CHANNEL relid=2
claim_free 1
B< EmptySlot flag=1
H> offer id=3 instance=3
G< OFFER_CHANNEL relid=1
