# Closing a device closes each open subchannel and frees its ring, one by one; the primary comes last.
case 117 118
side guest
version 5.3
offer relid=5 interface=1 instance=1
offer relid=6 interface=1 instance=1 subchannel=1
offer relid=7 interface=1 instance=1 subchannel=2
offer relid=8 interface=1 instance=1 subchannel=3
open relid=5
open relid=6
open relid=7
A> close relid=6
A< error op=close kind=UsageError text=subchannel
G> silence
A> close relid=5
G> CLOSE_CHANNEL relid=6
G> GPADL_TEARDOWN relid=6 gpadl=0xE1E11
G< GPADL_TORNDOWN gpadl=0xE1E11
A< free relid=6
G> CLOSE_CHANNEL relid=7
G> GPADL_TEARDOWN relid=7 gpadl=0xE1E12
A> close relid=5
G< GPADL_TORNDOWN gpadl=0xE1E12
A< free relid=7
G> CLOSE_CHANNEL relid=5
G> GPADL_TEARDOWN relid=5 gpadl=0xE1E10
G< GPADL_TORNDOWN gpadl=0xE1E10
A< free relid=5
A< done op=close
A< done op=close
= open 0
= channels 4
