# The other end closes: a rescind, whatever the guest was doing; memory is free when no callback can run.
case 198
side guest
option manual-claims
version 5.3
offer relid=5 interface=9 instance=1 flags=0x2011
open relid=5
G< RESCIND_OFFER relid=5
G> CLOSE_CHANNEL relid=5
G> silence
claim_free 5
A< free relid=5
A< gone relid=5
A> release relid=5
G> RELID_RELEASED relid=5
