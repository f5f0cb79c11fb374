# A handle means one GPADL of a channel; the one that exists is not harmed.
case 091 092
version 5.3
offer instance=1
offer instance=2
gpadl relid=1 gpadl=10
G> GPADL_HEADER relid=1 gpadl=10
G< GPADL_CREATED relid=1 gpadl=10 status=UNSUCCESSFUL
G> GPADL_HEADER relid=2 gpadl=10
H< gpadl relid=2 gpadl=10
H> done(0)
G< GPADL_CREATED relid=2 gpadl=10 status=OK
G> OPEN_CHANNEL relid=1 gpadl=10
H< open relid=1 gpadl=10
H> done
G< OPEN_RESULT relid=1 status=OK
