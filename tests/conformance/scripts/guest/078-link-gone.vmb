# The link is gone before the host has let go: the memory is kept.
case 078
side guest
version 5.3
offer relid=5
open relid=5
A> close relid=5
G> CLOSE_CHANNEL relid=5
G> GPADL_TEARDOWN relid=5
A> lost
A< error op=close kind=LinkLost
A> open relid=5
A< error op=open kind=LinkLost
