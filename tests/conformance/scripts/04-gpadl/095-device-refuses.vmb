# A device may refuse memory; the handle is free again.
case 095
version 5.3
offer
G> GPADL_HEADER relid=1 gpadl=1
H< gpadl gpadl=1
H> done(-1)
G< GPADL_CREATED relid=1 gpadl=1 status=UNSUCCESSFUL
G> GPADL_TEARDOWN relid=1 gpadl=1
= refused 1
gpadl relid=1 gpadl=1
