# A body names no channel, so an unfinished handle must be the only one of its number.
case 093
version 5.3
offer instance=1
offer instance=2
G> GPADL_HEADER relid=1 gpadl=5 pages=30
G> GPADL_HEADER relid=2 gpadl=5 words=0x20000,1,2,3 length=264
G< GPADL_CREATED relid=2 gpadl=5 status=UNSUCCESSFUL
G> GPADL_BODY gpadl=5 pfns=42..45
H< gpadl relid=1 gpadl=5 pages=30
H> done(0)
G< GPADL_CREATED relid=1 gpadl=5 status=OK
