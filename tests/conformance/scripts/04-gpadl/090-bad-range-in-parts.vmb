# A bad range is judged when it is complete, not before.
case 090
version 5.3
offer
G> GPADL_HEADER relid=1 gpadl=1 bytes=4096 byte_offset=0x1000 pages=40
G< silence
G> GPADL_BODY gpadl=1
G< GPADL_CREATED relid=1 gpadl=1 status=UNSUCCESSFUL
gpadl relid=1 gpadl=1
