# The same key again before the release: the guest hears of it at the release, with the same relid.
case 126
version 5.3
offer instance=1
revoke relid=1
G< RESCIND_OFFER relid=1
H> offer id=7 instance=1
G< silence
G> RELID_RELEASED relid=1
B< EmptySlot flag=1 relid=1
B< FillSlot flag=1 relid=1
G< OFFER_CHANNEL relid=1 instance=1
gpadl relid=1
G> OPEN_CHANNEL relid=1
H< open relid=1 event_flag=1
H> done
G< OPEN_RESULT relid=1 status=OK
= open 1
