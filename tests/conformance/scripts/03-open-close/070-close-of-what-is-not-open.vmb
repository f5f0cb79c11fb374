# A close of a channel that is closed, opening or closing is refused.
case 070
version 5.3
offer
gpadl
G> CLOSE_CHANNEL relid=1
= refused 1
G> OPEN_CHANNEL relid=1
H< open relid=1
G> CLOSE_CHANNEL relid=1
= refused 2
H> done(0)
G< OPEN_RESULT status=OK
G> CLOSE_CHANNEL relid=1
H< close relid=1
G> CLOSE_CHANNEL relid=1
= refused 3
H> done
= channel 1 closed
