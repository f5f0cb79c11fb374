# Without the features that need it, the long form of an open is read as the short one.
case 024 061
version 5.3
offer
gpadl
G> OPEN_CHANNEL relid=1 connection=0x2777 event_flag=77 flags=1
H< open relid=1 event_flag=1 connection=0x2001
H> done(0)
G< OPEN_RESULT relid=1 status=OK
