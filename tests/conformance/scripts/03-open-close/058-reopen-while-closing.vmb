# An open that comes before the close is done waits for it, with its own parameters.
case 058
version 5.3
offer
gpadl gpadl=1
gpadl gpadl=2 pages=6
open relid=1 gpadl=1 vp=1
G> CLOSE_CHANNEL relid=1
H< close relid=1
G> OPEN_CHANNEL relid=1 open_id=77 gpadl=2 vp=2 offset=3
H< silence
G< silence
H> done
H< open relid=1 gpadl=2 vp=2 offset=3
H> done(0)
G< OPEN_RESULT relid=1 open_id=77 status=OK
= channel 1 open vp=2
