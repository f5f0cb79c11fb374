# The guest may choose both; an open that chooses nothing falls back to what was offered.
case 062
version 6.0 features=0x01
offer
gpadl
G> OPEN_CHANNEL relid=1 event_flag=2 connection=0x2002
B< OpenSlot flag=2 relid=1
H< open relid=1 event_flag=2 connection=0x2002
H> done
G< OPEN_RESULT relid=1 status=OK
= channel 1 open flag=2
G> CLOSE_CHANNEL relid=1
H< close
H> done
G> OPEN_CHANNEL relid=1 event_flag=0 connection=0
H< open relid=1 event_flag=1 connection=0x2001
H> done
G< OPEN_RESULT relid=1 status=OK
