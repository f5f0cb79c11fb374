# 1024 pages are a header and 36 bodies, and one answer.
case 083
version 5.3
offer
G> GPADL relid=1 gpadl=1 pages=1024
H< gpadl relid=1 gpadl=1 pages=1024 bytes=0x400000
H> done
G< GPADL_CREATED gpadl=1 status=OK
G> GPADL_BODY gpadl=1 pfns=1
= refused 1
