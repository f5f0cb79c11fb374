# A device that is stopped keeps GPADLs and closes going; an open and a modification wait until it is started.
case 075
version 5.3
offer
offer
offer
open relid=1
open relid=2
G> GPADL relid=3 gpadl=3 pages=4
H< gpadl gpadl=3
H> gpadl_accepted relid=3 gpadl=3
G< GPADL_CREATED relid=3 gpadl=3 status=OK
G> OPEN_CHANNEL relid=3 open_id=3 gpadl=3
H< open relid=3
G> MODIFY_CHANNEL relid=1 vp=2
H< retarget relid=1 vp=2
G> CLOSE_CHANNEL relid=2
H< close relid=2
H> closed relid=2
= channel 2 closed
G< silence
# Started.
H> open done(0)
G< OPEN_RESULT relid=3 open_id=3 status=OK
H> retarget done(0)
G< MODIFY_CHANNEL_RESPONSE relid=1 status=OK
= channel 1 open vp=2
= channel 3 open
= refused 0
