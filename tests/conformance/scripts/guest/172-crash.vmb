# A crashing guest ends whatever it was doing, hears nothing but the answer, and goes on after 100 s.
case 172
side guest
version 5.3
offer relid=5
open relid=5
offer relid=6
A> open relid=6
G> GPADL_HEADER relid=6
A> crash
A< error op=open kind=ChannelGone
G> UNLOAD
G< GPADL_CREATED relid=6
G< RESCIND_OFFER relid=5
= refused 2
T+ 99s
= unloading
T+ 1s
A< done op=crash
= disconnected
G< UNLOAD_COMPLETE
= refused 3
