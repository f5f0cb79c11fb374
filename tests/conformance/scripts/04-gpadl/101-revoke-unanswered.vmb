# What the device has not answered is answered before the rescind.
case 101 102
version 5.3
offer
gpadl relid=1 gpadl=2
G> GPADL_TEARDOWN relid=1 gpadl=2
H< teardown gpadl=2
G> GPADL_HEADER relid=1 gpadl=1
H< gpadl gpadl=1
revoke relid=1
G< GPADL_CREATED relid=1 gpadl=1 status=UNSUCCESSFUL
G< GPADL_TORNDOWN gpadl=2
G< RESCIND_OFFER relid=1
