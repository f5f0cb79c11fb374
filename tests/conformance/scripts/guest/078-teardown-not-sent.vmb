# The close got out, its teardown did not: still the memory is kept, and another close goes on from there.
case 078
side guest
option manual-claims
version 5.3
offer relid=5
open relid=5
A> close relid=5
G> CLOSE_CHANNEL relid=5
port refuses
claim_free 5
A< error op=close kind=ResourceError
port ready
A> close relid=5
G> GPADL_TEARDOWN relid=5
G< GPADL_TORNDOWN gpadl=0xE1E10
A< free relid=5
A< done op=close
