# An open of a channel that is opening, open, or about to be opened again is refused; the first goes on.
case 057
version 5.3
offer
gpadl
G> OPEN_CHANNEL relid=1 open_id=1
H< open relid=1
G> OPEN_CHANNEL relid=1 open_id=2
= refused 1
H> done(0)
G< OPEN_RESULT relid=1 open_id=1 status=OK
G> OPEN_CHANNEL relid=1 open_id=3
= refused 2
G> CLOSE_CHANNEL relid=1
H< close relid=1
G> OPEN_CHANNEL relid=1 open_id=4
G> OPEN_CHANNEL relid=1 open_id=5
= refused 3
H> done
H< open relid=1
H> done
G< OPEN_RESULT relid=1 open_id=4 status=OK
