# 26 pages fill a header; the 27th is the one word of a body.
case 082
version 5.3
offer
G> GPADL_HEADER relid=1 gpadl=1 pages=26
H< gpadl relid=1 gpadl=1 pages=26
H> done
G< GPADL_CREATED gpadl=1 status=OK
G> GPADL_HEADER relid=1 gpadl=2 pages=27
H< silence
G< silence
G> GPADL_BODY gpadl=2
H< gpadl relid=1 gpadl=2 pages=27
H> done
G< GPADL_CREATED gpadl=2 status=OK
