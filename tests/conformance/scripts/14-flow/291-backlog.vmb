# What cannot be sent now waits in order, and no guest message is taken before it is gone.
case 291
version 5.3
offer
gpadl
guest blocked
G> GPADL_HEADER relid=1 gpadl=2
H< silence
H> offer instance=2
H> offer instance=3
G< silence
guest ready
G< OFFER_CHANNEL relid=2
G< OFFER_CHANNEL relid=3
H< gpadl relid=1 gpadl=2
H> done
G< GPADL_CREATED gpadl=2 status=OK
