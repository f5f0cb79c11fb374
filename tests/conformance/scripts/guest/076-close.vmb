# The order of a close: no callback, CLOSE_CHANNEL, GPADL_TEARDOWN, and the memory only after its answer.
case 076
side guest
version 5.3
offer relid=5
open relid=5
A> close relid=5
A< detach relid=5
G> CLOSE_CHANNEL relid=5
G> GPADL_TEARDOWN relid=5
G< GPADL_TORNDOWN gpadl=0xE1E10
A< free relid=5
A< done op=close
= channel 5 offered
