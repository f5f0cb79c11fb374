# GPADL_TORNDOWN comes when the device has let go of its last mapping, not before.
case 096 097
version 5.3
offer
gpadl relid=1 gpadl=1
G> GPADL_TEARDOWN relid=1 gpadl=1
H< teardown relid=1 gpadl=1
G< silence
G> GPADL_TEARDOWN relid=1 gpadl=1
= refused 1
H> done
G< GPADL_TORNDOWN gpadl=1 @size=12
gpadl relid=1 gpadl=1
