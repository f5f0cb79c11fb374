# The bodies of two GPADLs may be mixed; each gets its own pages.
case 085
version 5.3
offer
G> GPADL_HEADER relid=1 gpadl=1 pfns=100..159
G> GPADL_HEADER relid=1 gpadl=2 pfns=300..350
G> GPADL_BODY gpadl=2
H< gpadl gpadl=2 pfns=300..350
G> GPADL_BODY gpadl=1
H< silence
G> GPADL_BODY gpadl=1
H< gpadl gpadl=1 pfns=100..159
H> done gpadl=1
G< GPADL_CREATED gpadl=1 status=OK
H> done gpadl=2
G< GPADL_CREATED gpadl=2 status=OK
