# Beyond a limit, no further GPADL may be left unfinished; finished ones are not touched by it.
case 310
option max-unfinished-gpadls=3
version 5.3
offer
gpadl relid=1 gpadl=9
G> GPADL_HEADER relid=1 gpadl=1 pages=30
G> GPADL_HEADER relid=1 gpadl=2 pages=30
G> GPADL_HEADER relid=1 gpadl=3 pages=30
= unfinished_gpadls 3
G> GPADL_HEADER relid=1 gpadl=4 pages=30
G< GPADL_CREATED relid=1 gpadl=4 status=UNSUCCESSFUL
gpadl relid=1 gpadl=4 pages=5
G> GPADL_BODY gpadl=2
H< gpadl gpadl=2
H> done
G< GPADL_CREATED gpadl=2 status=OK
= unfinished_gpadls 2
G> GPADL_HEADER relid=1 gpadl=5 pages=30
G< silence
