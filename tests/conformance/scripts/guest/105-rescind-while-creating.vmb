# A rescind ends the wait for a GPADL.
case 105
side guest
version 5.3
offer relid=5
A> open relid=5
G> GPADL_HEADER relid=5
G< RESCIND_OFFER relid=5
A< error op=open kind=ChannelGone
A< free relid=5
A< gone relid=5
A> release relid=5
G> RELID_RELEASED relid=5
