# A subchannel of nothing is a device of its own: closed by itself, released when its application lets go.
case 122
side guest
version 5.3
offer relid=5 interface=1 instance=1
open relid=5
G< OFFER_CHANNEL relid=6 interface=1 instance=2 subchannel=1
A< offered relid=6 primary=0
G< OFFER_CHANNEL relid=7 interface=2 instance=1 subchannel=1
A< offered relid=7 primary=0
open relid=6
A> close relid=5
G> CLOSE_CHANNEL relid=5
G> GPADL_TEARDOWN relid=5
A> close relid=6
G> CLOSE_CHANNEL relid=6
G> GPADL_TEARDOWN relid=6
G< RESCIND_OFFER relid=7
A< gone relid=7
G> silence
A> release relid=7
G> RELID_RELEASED relid=7
