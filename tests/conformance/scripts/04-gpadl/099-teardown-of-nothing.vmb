# A teardown that names nothing that stands has no answer.
case 099
version 5.3
offer instance=1
offer instance=2
gpadl relid=1 gpadl=1
G> GPADL_TEARDOWN relid=1 gpadl=2
G> GPADL_TEARDOWN relid=2 gpadl=1
G> GPADL_TEARDOWN relid=77 gpadl=1
= refused 3
G> GPADL_HEADER relid=1 gpadl=3 pages=40
G> GPADL_TEARDOWN relid=1 gpadl=3
= refused 4
G> GPADL_BODY gpadl=3
H< gpadl gpadl=3
G> GPADL_TEARDOWN relid=1 gpadl=3
= refused 5
H> done
G< GPADL_CREATED gpadl=3 status=OK
G> GPADL_TEARDOWN relid=1 gpadl=3
H< teardown gpadl=3
G> GPADL_TEARDOWN relid=1 gpadl=3
= refused 6
H> done
G< GPADL_TORNDOWN gpadl=3
