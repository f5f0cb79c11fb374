# A device that refuses leaves the channel closed, and the next open is a new one.
case 055
version 5.3
offer
gpadl
G> OPEN_CHANNEL relid=1 open_id=5
H< open relid=1
H> done(-1)
G< OPEN_RESULT relid=1 open_id=5 status=UNSUCCESSFUL
= channel 1 closed
G> OPEN_CHANNEL relid=1 open_id=6
H< open relid=1
H> done(0)
G< OPEN_RESULT relid=1 open_id=6 status=OK
= channel 1 open
