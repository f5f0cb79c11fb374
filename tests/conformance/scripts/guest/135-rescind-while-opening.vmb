# A rescind ends the wait for an open; the answer that comes later means nothing.
case 135
side guest
version 5.3
offer relid=5
A> open relid=5
G> GPADL_HEADER relid=5
G< GPADL_CREATED relid=5
G> OPEN_CHANNEL relid=5
G< RESCIND_OFFER relid=5
A< error op=open kind=ChannelGone
G< OPEN_RESULT relid=5
= refused 1
