# Two closers of a channel: one close, one teardown, and both return on its answer.
case 109
side guest
version 5.3
offer relid=5
open relid=5
A> close relid=5
G> CLOSE_CHANNEL relid=5
G> GPADL_TEARDOWN relid=5
A> close relid=5
G> silence
G< GPADL_TORNDOWN gpadl=0xE1E10
A< done op=close
A< done op=close
