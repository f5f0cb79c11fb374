# A reserved channel and its GPADL stay when the guest leaves, and are closed while nobody is connected.
case 181 182 187
option vps=8
version 5.3
offer
gpadl
G> OPEN_RESERVED relid=1 vp=1 sint=3
H< open relid=1
H> done
G< OPEN_RESULT relid=1 open_id=0 status=OK @vp=1 @sint=3
G> UNLOAD
G< UNLOAD_COMPLETE
= disconnected
= open 1
= gpadls 1
= relids 1
G> CLOSE_RESERVED relid=1 vp=4 sint=5
H< close relid=1
H> done
H< teardown gpadl=1
G< CLOSE_RESERVED_RESPONSE relid=1 @vp=4 @sint=5 @size=12
H> done
= relids 0
