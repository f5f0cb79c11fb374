# The device hears of the pages as the guest gave them, and where the second ring begins.
case 067
version 5.3
offer
G> GPADL_HEADER relid=1 gpadl=8 pfns=40,41,42,99,7 length=48 count=1
H< gpadl relid=1 gpadl=8 count=1 pfns=40,41,42,99,7 bytes=20480 byte_offset=0
H> done(0)
G< GPADL_CREATED relid=1 gpadl=8 status=OK
G> OPEN_CHANNEL relid=1 gpadl=8 offset=3
H< open gpadl=8 offset=3
H> done(0)
G< OPEN_RESULT relid=1 status=OK
