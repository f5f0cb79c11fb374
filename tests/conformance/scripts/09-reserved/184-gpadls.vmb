# While reserved, a channel takes no memory and gives none back; afterwards it does.
case 184
version 5.3
offer
gpadl
G> OPEN_RESERVED relid=1 vp=0 sint=3
H< open relid=1
H> done
G< OPEN_RESULT relid=1
G> GPADL_HEADER relid=1 gpadl=2
G< GPADL_CREATED relid=1 gpadl=2 status=UNSUCCESSFUL
G> GPADL_TEARDOWN relid=1 gpadl=1
= refused 1
H< silence
G> CLOSE_RESERVED relid=1 vp=0 sint=3
H< close relid=1
H> done
G< CLOSE_RESERVED_RESPONSE relid=1
gpadl relid=1 gpadl=2
G> GPADL_TEARDOWN relid=1 gpadl=1
H< teardown gpadl=1
H> done
G< GPADL_TORNDOWN gpadl=1
