# Without the feature the event flag is the relid and the connection id the offered one.
case 061
version 6.0
offer
gpadl
G> OPEN_CHANNEL relid=1 connection=0x2007 event_flag=7
H< open relid=1 event_flag=1 connection=0x2001
H> done
G< OPEN_RESULT status=OK
