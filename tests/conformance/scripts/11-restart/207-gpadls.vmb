# GPADLs in every state: bodies complete the unfinished one, answers that are owed count, once.
case 207
version 5.3
offer
gpadl relid=1 gpadl=3
gpadl relid=1 gpadl=4
G> GPADL_HEADER relid=1 gpadl=1 pages=50
G> GPADL_HEADER relid=1 gpadl=2 pages=4
H< gpadl relid=1 gpadl=2
G> GPADL_TEARDOWN relid=1 gpadl=4
H< teardown relid=1 gpadl=4
= gpadls 4
= unfinished_gpadls 1
save
restore
silence
= gpadls 4
= unfinished_gpadls 1
G> GPADL_BODY gpadl=1
H< gpadl relid=1 gpadl=1 pages=50
H> gpadl gpadl=2
G< GPADL_CREATED gpadl=2 status=OK
H> gpadl gpadl=1
G< GPADL_CREATED gpadl=1 status=OK
H> teardown gpadl=4
G< GPADL_TORNDOWN gpadl=4
G> OPEN_CHANNEL relid=1 gpadl=3
H< open relid=1
H> gpadl_torn_down gpadl=4
= refused 1
