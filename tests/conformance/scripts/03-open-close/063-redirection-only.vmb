# Only redirection: of the flags word one bit counts, and nothing else is chosen.
case 063
version 6.0 features=0x02
offer
gpadl
G> OPEN_CHANNEL relid=1 event_flag=7 connection=0x2007 flags=0x0ABD
H< open relid=1 event_flag=1 connection=0x2001 flags=1
H> done
G< OPEN_RESULT relid=1 status=OK
