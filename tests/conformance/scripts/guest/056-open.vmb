# Opening: the GPADL, then the open with the relid as its id; results of others are not heard.
case 056 107
side guest
version 5.3
offer relid=5
A> open relid=5 vp=2 offset=2 pages=4 user=0102
G> GPADL_HEADER relid=5 pages=4 bytes=16384 count=1 length=40
G< GPADL_CREATED relid=5 gpadl=7 status=OK
= refused 1
G< GPADL_CREATED relid=5
G> OPEN_CHANNEL relid=5 open_id=5 vp=2 offset=2 user=0102 @size=148
G< OPEN_RESULT relid=4 open_id=5
G< OPEN_RESULT relid=5 open_id=4
= refused 3
G< OPEN_RESULT relid=5 open_id=5 status=OK
A< opened relid=5
A< done op=open
= channel 5 open
