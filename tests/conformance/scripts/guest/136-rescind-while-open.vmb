# A rescind of an open channel: closed, nothing torn down, released when the application has let go.
case 108 136 137
side guest
option manual-claims
version 5.3
offer relid=5
open relid=5
G< RESCIND_OFFER relid=5
A< detach relid=5
G> CLOSE_CHANNEL relid=5
G> silence
claim_free 5
A< free relid=5
A< gone relid=5
G> silence
A> release relid=5
G> RELID_RELEASED relid=5
= channels 0
