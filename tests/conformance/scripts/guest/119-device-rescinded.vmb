# The whole device goes, subchannels first: each is closed and released, the primary last.
case 119 113
side guest
version 5.3
offer relid=5 interface=1 instance=1
offer relid=6 interface=1 instance=1 subchannel=1
offer relid=7 interface=1 instance=1 subchannel=2
open relid=5
open relid=6
G< RESCIND_OFFER relid=6
G< RESCIND_OFFER relid=7
G> RELID_RELEASED relid=7
G< RESCIND_OFFER relid=5
A< detach relid=6
G> CLOSE_CHANNEL relid=6
G> RELID_RELEASED relid=6
A< detach relid=5
G> CLOSE_CHANNEL relid=5
A< gone relid=5
A> release relid=5
G> RELID_RELEASED relid=5
= channels 0
