# Messages that came while nothing could be answered wait over a restart, and are handled in their order.
case 311
version 5.3
offer
guest blocked
G> GPADL_HEADER relid=1 gpadl=1 pages=4
G> GPADL_HEADER relid=1 gpadl=2 pages=4
G> GPADL_TEARDOWN relid=1 gpadl=9
save
restore
= accepting 0
= refused 0
silence
guest ready
H< gpadl gpadl=1
H< gpadl gpadl=2
= refused 1
