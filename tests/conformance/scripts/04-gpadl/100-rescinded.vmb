# On a rescinded channel memory is accepted and given back at once; there is no device to ask.
case 100
version 5.3
offer
revoke relid=1
G< RESCIND_OFFER relid=1
G> GPADL_HEADER relid=1 gpadl=1
G< GPADL_CREATED relid=1 gpadl=1 status=OK
G> GPADL_TEARDOWN relid=1 gpadl=1
G< GPADL_TORNDOWN gpadl=1
H< silence
