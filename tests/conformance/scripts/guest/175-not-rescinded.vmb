# A host that does not take the subchannels back is waited for 10 s.
case 175
side guest
version 5.3
offer relid=5 interface=1 instance=1
offer relid=6 interface=1 instance=1 subchannel=1
open relid=5
A> suspend
G> CLOSE_CHANNEL relid=5
G> GPADL_TEARDOWN relid=5
G< GPADL_TORNDOWN gpadl=0xE1E10
T+ 9s
= suspending
T+ 1s
G> RELID_RELEASED relid=6
G> UNLOAD
