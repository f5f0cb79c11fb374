# What follows the announced length is padding, in a header as in a body.
case 084
version 5.3
offer
G> GPADL_HEADER relid=1 gpadl=1 words=0x1000,16 @size=240
H< gpadl gpadl=1 words=0x1000,16
H> done
G< GPADL_CREATED gpadl=1 status=OK
G> GPADL_HEADER relid=1 gpadl=2 pages=27
G> GPADL_BODY gpadl=2 @size=240
H< gpadl gpadl=2 pages=27
H> done
G< GPADL_CREATED gpadl=2 status=OK
