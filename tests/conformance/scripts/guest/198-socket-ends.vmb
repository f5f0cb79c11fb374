# A socket is opened once; after its close the guest waits for the rescind before it lets go of the channel.
case 198
side guest
version 5.3
offer relid=5 interface=9 instance=1 flags=0x2011
open relid=5
A> close relid=5
G> CLOSE_CHANNEL relid=5
G> GPADL_TEARDOWN relid=5
G< GPADL_TORNDOWN gpadl=0xE1E10
A< done op=close
A> open relid=5
A< error op=open kind=UsageError
= channels 1
G> silence
G< RESCIND_OFFER relid=5
A< gone relid=5
G> RELID_RELEASED relid=5
