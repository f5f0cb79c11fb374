# A ring needs one range of whole pages, accepted, and of this channel.
case 066
version 5.3
offer instance=1
offer instance=2
gpadl relid=2 gpadl=9
gpadl relid=1 gpadl=2 words=0x1000,16,0x1000,17 count=2
gpadl relid=1 gpadl=3 pages=4 byte_offset=0x10
gpadl relid=1 gpadl=4 pages=4 bytes=12289
G> GPADL_HEADER relid=1 gpadl=5 pages=4
H< gpadl relid=1 gpadl=5
G> OPEN_CHANNEL relid=1 gpadl=77
G< OPEN_RESULT status=UNSUCCESSFUL
G> OPEN_CHANNEL relid=1 gpadl=9
G< OPEN_RESULT status=UNSUCCESSFUL
G> OPEN_CHANNEL relid=1 gpadl=2 offset=1
G< OPEN_RESULT status=UNSUCCESSFUL
G> OPEN_CHANNEL relid=1 gpadl=3
G< OPEN_RESULT status=UNSUCCESSFUL
G> OPEN_CHANNEL relid=1 gpadl=4
G< OPEN_RESULT status=UNSUCCESSFUL
G> OPEN_CHANNEL relid=1 gpadl=5
G< OPEN_RESULT status=UNSUCCESSFUL
H< silence
H> done(0)
G< GPADL_CREATED relid=1 gpadl=5 status=OK
G> GPADL_TEARDOWN relid=1 gpadl=5
H< teardown gpadl=5
G> OPEN_CHANNEL relid=1 gpadl=5
G< OPEN_RESULT status=UNSUCCESSFUL
H> done
G< GPADL_TORNDOWN gpadl=5
= channel 1 closed
