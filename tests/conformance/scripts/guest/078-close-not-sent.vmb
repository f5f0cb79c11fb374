# The host cannot be told of the close: the error is the closer's, and the memory is not given back.
case 078
side guest
version 5.3
offer relid=5
open relid=5
port refuses
A> close relid=5
A< detach relid=5
A< error op=close kind=ResourceError
= channel 5 phase="closed here only"
A> open relid=5
A< error op=open kind=UsageError
port ready
A> close relid=5
G> CLOSE_CHANNEL relid=5
G> GPADL_TEARDOWN relid=5
G< GPADL_TORNDOWN gpadl=0xE1E10
A< free relid=5
A< done op=close
