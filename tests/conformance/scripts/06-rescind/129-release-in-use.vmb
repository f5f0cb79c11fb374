# A channel in use is not released; one that plainly closes is.
case 129
version 5.3
offer
gpadl
G> OPEN_CHANNEL relid=1
H< open relid=1
G> RELID_RELEASED relid=1
= refused 1
H> done
G< OPEN_RESULT status=OK
G> RELID_RELEASED relid=1
= refused 2
G> CLOSE_CHANNEL relid=1
H< close relid=1
G> OPEN_CHANNEL relid=1 open_id=2
G> RELID_RELEASED relid=1
= refused 3
H> done
H< open relid=1
H> done
G< OPEN_RESULT open_id=2 status=OK
G> CLOSE_CHANNEL relid=1
H< close relid=1
G> RELID_RELEASED relid=1
H< teardown relid=1 gpadl=1
= refused 3
# The guest does not know the relid any more, although the device is not done with it.
G> OPEN_CHANNEL relid=1
= refused 4
G> GPADL_HEADER relid=1 gpadl=7
G< GPADL_CREATED relid=1 gpadl=7 status=UNSUCCESSFUL
H> done
H> done
G< silence
