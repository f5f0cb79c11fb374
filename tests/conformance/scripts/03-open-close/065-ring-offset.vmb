# The second ring must begin inside the GPADL and not at its first page.
case 065
version 5.3
offer
gpadl pages=4
G> OPEN_CHANNEL relid=1 open_id=1 offset=0
G< OPEN_RESULT relid=1 open_id=1 status=UNSUCCESSFUL
G> OPEN_CHANNEL relid=1 open_id=2 offset=4
G< OPEN_RESULT relid=1 open_id=2 status=UNSUCCESSFUL
G> OPEN_CHANNEL relid=1 open_id=3 offset=0xFFFFFFFF
G< OPEN_RESULT relid=1 open_id=3 status=UNSUCCESSFUL
H< silence
= channel 1 closed
G> OPEN_CHANNEL relid=1 offset=3
H< open offset=3
H> done
G< OPEN_RESULT status=OK
