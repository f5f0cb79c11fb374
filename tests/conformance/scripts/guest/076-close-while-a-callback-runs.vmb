# The teardown waits until no callback can run.
case 076 136
side guest
option manual-claims
version 5.3
offer relid=5
open relid=5
A> close relid=5
G> CLOSE_CHANNEL relid=5
G> silence
claim_free 5
G> GPADL_TEARDOWN relid=5
